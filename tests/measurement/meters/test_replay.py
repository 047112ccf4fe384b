import json
from dataclasses import replace
from pathlib import Path

import pytest

from llmco2.errors import FileFormatError, InputError, MeasurementError
from llmco2.measurement.meters.meter import COUNTER_WINDOW, EnergyMeter
from llmco2.measurement.meters.replay import ReplayMeter
from llmco2.measurement.meters.session_file import SessionEvent, SessionRecorder, read_session
from llmco2.measurement.meters.zeus_meter import ZeusMeter
from llmco2.measurement.simulation.rig import SimulatedGpu


@pytest.fixture
def recording(make_rig, tmp_path):
    """Record ten seconds of two GPUs, one window and one event; return the file and what went in."""
    rig = make_rig(SimulatedGpu(), SimulatedGpu(has_counter=False, has_instant_power=False))
    path = tmp_path / "session.jsonl"
    samples = []
    with ZeusMeter(clock=rig.clock) as meter, SessionRecorder(path, meter) as recorder:
        recorder.write_event(rig.clock.now_s(), "request", {"model": "m", "tokens": [1, 2]})
        for second in range(10):
            if second == 3:
                rig.set_power(0, 600.0)
                rig.set(0, throttle=4)
                meter.begin_window("prefill")
            if second == 6:
                window = meter.end_window("prefill")
                recorder.write_window(window)
                rig.set_power(0, 70.0)
            taken = meter.sample()
            recorder.write_samples(taken)
            samples += taken
            rig.clock.sleep(1.0)
        devices = meter.devices()
    return path, devices, tuple(samples), window


def test_reading_back_gives_exactly_what_was_recorded(recording):
    path, devices, samples, window = recording
    session = read_session(path)
    assert session.devices == devices
    assert session.samples == samples
    assert session.windows == (window,)
    assert session.simulated
    (event,) = session.events
    assert (event.name, event.data) == ("request", {"model": "m", "tokens": [1, 2]})
    assert samples[0].missing == ()
    assert samples[1].why_missing("power_w") is not None
    assert samples[0].throttle_reasons == ()


def test_a_replay_shows_each_sample_at_its_time(recording):
    path, devices, samples, window = recording
    with ReplayMeter(path, speed=0.0) as meter:
        assert isinstance(meter, EnergyMeter)
        assert meter.simulated
        assert meter.devices() == devices
        for k in range(10):
            meter.clock.seek(samples[2 * k].t_s + 0.4)
            assert meter.sample() == samples[2 * k : 2 * k + 2]
        assert meter.windows() == (window,)
        meter.clock.seek(window.start_s + 0.5)
        assert meter.windows() == ()
        assert len(meter.events()) == 1
        assert not meter.finished
        meter.clock.sleep(100.0)
        assert meter.finished


def test_a_recorded_window_replays_as_itself_and_any_other_from_the_samples(recording):
    path, _, samples, window = recording
    with ReplayMeter(path, speed=0.0) as meter:
        meter.begin_window("prefill")
        meter.begin_window("mine")
        meter.clock.sleep(8.0)
        assert meter.end_window("prefill") == window
        mine = meter.end_window("mine")
        assert mine.gpus[0].method == COUNTER_WINDOW
        assert mine.gpus[0].energy_j == samples[16].energy_counter_j - samples[0].energy_counter_j
        assert mine.gpus[1].energy_j is None
        assert mine.gpus[1].reason == "the recording has no energy there"
        with pytest.raises(InputError, match="no window of that name is open"):
            meter.end_window("mine")


def test_a_replay_runs_as_many_times_faster_as_asked(recording):
    with ReplayMeter(recording[0], speed=1000.0) as meter:
        meter.clock.sleep(9.0)
        assert meter.finished
    with ReplayMeter(recording[0], speed=0.0) as meter:
        start_s = meter.clock.now_s()
        assert meter.clock.now_s() == start_s
        meter.clock.set_speed(1e6)
        while not meter.finished:
            meter.clock.sleep(0.5)
        with pytest.raises(InputError, match="replay speed is out of range: got -1"):
            meter.clock.set_speed(-1)


def test_a_closed_replay_says_so(recording):
    meter = ReplayMeter(recording[0])
    meter.close()
    with pytest.raises(MeasurementError, match="the meter is closed"):
        meter.sample()


def test_cutting_the_file_anywhere_loses_at_most_the_line_being_written(recording, tmp_path):
    path, _, samples, _ = recording
    whole = path.read_bytes()
    header_end = whole.index(b"\n") + 1
    cut_file = tmp_path / "cut.jsonl"
    for cut in range(header_end, len(whole), 97):
        cut_file.write_bytes(whole[:cut])
        session = read_session(cut_file)
        n_lines = whole[:cut].count(b"\n") - 1
        assert session.samples == samples[: len(session.samples)]
        assert len(session.samples) + len(session.windows) + len(session.events) == n_lines


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not a recorded session"),
        ("model,gpu\na,b\n", "is not a recorded session"),
        ('{"format": "llmco2-session", "version": 9}\n', "is of another version: got 9, expected 1"),
        ("{head}\nnonsense\n", "line 2: damaged: got nonsense"),
        ("{head}\n[1]\n", r"line 2: damaged: got \[1\]"),
        ('{head}\n{"kind": "song"}\n', "line 2: unknown kind: got 'song'"),
        (
            '{head}\n{"kind": "sample", "t_s": "noon", "gpu_index": 0}\n',
            "line 2: damaged: got 'noon' is not float",
        ),
        (
            '{head}\n{"kind": "sample", "t_s": 1.0, "gpu_index": 0, "x": 1}\n',
            "line 2: damaged: got unknown field x",
        ),
        ('{head}\n{"kind": "sample", "t_s": 1.0}\n', "line 2: damaged: got .*gpu_index"),
    ],
)
def test_a_foreign_or_damaged_file_names_its_line(tmp_path, text, says):
    path = tmp_path / "session.jsonl"
    head = json.dumps({"format": "llmco2-session", "version": 1, "devices": []})
    path.write_text(text.replace("{head}", head))
    with pytest.raises(FileFormatError, match=says):
        read_session(path)


def test_a_file_that_is_not_there_or_not_text_is_one_line(tmp_path):
    with pytest.raises(
        FileFormatError, match=r"cannot read the recording .*none.jsonl: got No such file or d\w+$"
    ):
        read_session(tmp_path / "none.jsonl")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FileFormatError, match="binary is no recording: got bytes that are no UTF-8 text"):
        read_session(tmp_path / "binary")


def test_a_recording_without_a_sample_is_refused(tmp_path):
    path = tmp_path / "session.jsonl"
    path.write_text('{"format": "llmco2-session", "version": 1}\n')
    with pytest.raises(InputError, match="the recording holds no sample"):
        ReplayMeter(path)


def test_recording_never_overwrites_and_says_where_it_cannot_write(rig, tmp_path):
    path = tmp_path / "session.jsonl"
    with ZeusMeter(clock=rig.clock, windows=False) as meter:
        SessionRecorder(path, meter).close()
        before = path.read_bytes()
        with pytest.raises(InputError, match="File exists; choose another name"):
            SessionRecorder(path, meter)
        assert path.read_bytes() == before
        with pytest.raises(InputError, match="choose a folder you may write to"):
            SessionRecorder(tmp_path / "none" / "session.jsonl", meter)
        recorder = SessionRecorder(path, meter, overwrite=True)
        recorder.close()
        recorder.close()
        with pytest.raises(InputError, match="the session can no longer be recorded"):
            recorder.write_samples(meter.sample())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full to stand for a full disk")
def test_a_full_disk_is_one_line(rig):
    with (
        ZeusMeter(clock=rig.clock, windows=False) as meter,
        pytest.raises(
            InputError, match=r"the session can no longer be recorded: got /dev/full: No space left"
        ),
    ):
        SessionRecorder(Path("/dev/full"), meter, overwrite=True)


def test_events_and_samples_are_values(recording):
    session = read_session(recording[0])
    assert replace(session.samples[0], t_s=0.0) != session.samples[0]
    assert SessionEvent(t_s=0.0, name="a", data={}) == SessionEvent(t_s=0.0, name="a", data={})
