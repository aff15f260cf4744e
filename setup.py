"""Builds the optional native kernels; everything else is in pyproject.toml.

LM_OFFLOAD_SANITIZE=1 in the environment builds them with the address and undefined-behaviour
sanitizers; run Python with libasan.so and libubsan.so of the compiler in LD_PRELOAD then.
LM_OFFLOAD_EMULATE=1 adds the AVX-512 tables on emulated intrinsics (tests/native) for tests.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import nanobind
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError, ExecError, PlatformError
from setuptools.modified import newer_group

BASE_FLAGS = ["-std=c++17", "-fvisibility=hidden", "-fno-strict-aliasing", "-ffp-contract=off"]
WARNINGS = ["-Wall", "-Wextra", "-Wno-psabi"]
RELEASE = ["-O3", "-g0", "-DNDEBUG"]
COMPILER_BYTES = 3 << 30  # of memory, at most
LONGEST = ("packed", "generic")  # to compile, in the names of sources
# Python's own flags have -fwrapv, which turns the check of signed overflow off. A fault ends the
# process: tests that pass would hide its message. Checks of addresses as calls are less to compile.
SANITIZE = [
    "-O1", "-g1", "-fno-omit-frame-pointer", "-fno-wrapv",
    "-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all",
    "--param=asan-instrumentation-with-call-threshold=0",
]  # fmt: skip
LINK_SANITIZE = ["-fsanitize=address,undefined"]


class OptionalBuild(build_ext):
    """Leaves the package usable in plain torch where the compiler fails."""

    def build_extension(self, ext: Extension) -> None:
        """Build, or say in one line what is missing."""
        try:
            ext.depends += ext.sources
            if self.force or newer_group(ext.depends, self.get_ext_fullpath(ext.name)):
                ext.extra_objects, ext.sources = self.compile_all(ext), []
            super().build_extension(ext)
        except (CCompilerError, ExecError, PlatformError) as error:
            print(
                f"lm-offload: native kernels were not built ({error}); "
                "plain torch will be used, which is several times slower.",
                file=sys.stderr,
            )

    def compile_all(self, ext: Extension) -> list[str]:
        """Object files of all sources, compiled side by side: each takes a minute or more."""
        compile_one = partial(
            self.compiler.compile,
            output_dir=self.build_temp,
            macros=ext.define_macros,
            include_dirs=ext.include_dirs,
            debug=self.debug,
            extra_postargs=ext.extra_compile_args,
        )
        sources = sorted(ext.sources, key=lambda name: not any(long in name for long in LONGEST))
        with ThreadPoolExecutor(compilers()) as pool:
            found = list(pool.map(lambda source: compile_one([source]), sources))
        return [name for names in found for name in names]


def compilers() -> int:
    """How many compilers cores and memory have room for."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(len(os.sched_getaffinity(0)), memory_bytes // COMPILER_BYTES))


def native_extension() -> Extension:
    """The module `lm_offload.kernels._native` from csrc/ and nanobind's own source."""
    include = Path(nanobind.include_dir())
    robin_map = include.parent / "ext" / "robin_map" / "include"
    sanitize = os.environ.get("LM_OFFLOAD_SANITIZE") == "1"
    mode = SANITIZE if sanitize else RELEASE
    emulate = os.environ.get("LM_OFFLOAD_EMULATE") == "1"
    folders = ["csrc", *(["tests/native"] if emulate else [])]
    return Extension(
        "lm_offload.kernels._native",
        sources=sorted(str(path) for folder in folders for path in Path(folder).glob("*.cpp")),
        depends=sorted(str(path) for folder in folders for path in Path(folder).glob("*.h")),
        include_dirs=["csrc", str(include), nanobind.source_dir(), str(robin_map)],
        define_macros=[("LMO_EMULATED", None)] if emulate else [],
        extra_compile_args=[*BASE_FLAGS, *WARNINGS, *mode],
        extra_link_args=["-pthread", *(LINK_SANITIZE if sanitize else ["-s"])],
        language="c++",
        optional=True,
    )


setup(ext_modules=[native_extension()], cmdclass={"build_ext": OptionalBuild})
