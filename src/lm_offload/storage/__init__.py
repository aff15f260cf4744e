"""Where weights lie and how they are read: headers, arenas, direct reads, unit views."""
