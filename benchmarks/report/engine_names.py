"""Engines in words: their own names, and what is particular about a variant."""

from __future__ import annotations

from benchmarks.peers.environments import PEERS, ROUNDED
from benchmarks.report.result_files import Row

NAMES = {
    "lm_offload": "LM-Offload", "llama_cpp": "llama.cpp", "openvino": "OpenVINO",
    "ctranslate2": "CTranslate2", "airllm": "AirLLM",
}  # fmt: skip
BINDING = {"llama_cpp": "llama-cpp-python "}  # whose version is known
VARIANT = "LM-Offload, 8-bit activations"


def engine_name(peer: str) -> str:
    """Without the format, which stands above the table or chart; an unknown one as it is."""
    if peer not in PEERS:
        return peer
    engine = PEERS[peer].engine
    return VARIANT if is_variant(peer) else NAMES.get(engine, engine)


def name_and_version(row: Row) -> str:
    """Such as `llama.cpp (llama-cpp-python 0.3.36)`."""
    peer, version = row["peer"], row.get("version")
    if not version:
        return engine_name(peer)
    binding = BINDING.get(PEERS[peer].engine, "") if peer in PEERS else ""
    return f"{engine_name(peer)} {f'({binding}{version})' if binding else version}"


def is_variant(peer: str) -> bool:
    """Whether it is ours with activations rounded as well: a choice beside the exact one."""
    return peer.endswith(ROUNDED)
