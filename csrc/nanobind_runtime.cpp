// nanobind's own code, from the installed package.
#include <nb_combined.cpp>
