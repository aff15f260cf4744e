"""Why a plan: bottlenecks, ceilings, what would help, predicted beside measured."""
