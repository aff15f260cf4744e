import json

from tests.pipeline.harness import Rig


def test_the_file_is_what_perfetto_opens(tmp_path):
    rig = Rig([12, None, 7], 12, read_s=0.002)
    rig.sweep([2, 1, 1])
    rig.executor.close()
    path = tmp_path / "trace.json"
    path.write_text("older")
    rig.trace.write(path)
    events = json.loads(path.read_text())["traceEvents"]
    tracks = {e["tid"]: e["args"]["name"] for e in events if e["ph"] == "M"}
    assert set(tracks.values()) == {"cpu", "disk_read"}
    spans = [event for event in events if event["ph"] == "X"]
    assert all(event["dur"] >= 0 and event["ts"] > 0 for event in spans)
    names = {(tracks[event["tid"]], event["name"]) for event in spans}
    assert ("disk_read", "read unit 0") in names
    assert {("cpu", f"compute unit {unit}") for unit in range(3)} <= names
    assert ("cpu", "wait unit 0") in names
    assert sum(event["name"] == "compute unit 0" for event in spans) == 2
    assert list(tmp_path.iterdir()) == [path]  # nothing half-written stays behind
