"""One reading, or the sums of a recording, without a screen."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final

from llmco2.errors import InputError, LLMCO2Error, MeasurementError, explain
from llmco2.measurement.meters.clock import MonotonicClock
from llmco2.measurement.meters.session_file import read_session
from llmco2.records.request import InferenceRequest
from llmco2.serving.facts import server_facts
from llmco2.serving.memory import Memory
from llmco2.serving.opening import open_sessions
from llmco2.serving.session import ServerSession
from llmco2_tui.campaign import CampaignFollower
from llmco2_tui.campaign_rows import campaign_data, campaign_rows, campaign_text, requests_of
from llmco2_tui.comparison import Answer
from llmco2_tui.grid import GridAccount, zone_factors
from llmco2_tui.measured import recorded_entries, request_from, samplings
from llmco2_tui.monitor_state import MonitorState
from llmco2_tui.notes import NoteTaker, notes_of
from llmco2_tui.predicting import Predict, known_names, predictor
from llmco2_tui.server_text import server_text
from llmco2_tui.servers import ServerFeed
from llmco2_tui.sources import MachineSources, demo_session
from llmco2_tui.summary import FORMAT, VERSION, samples_csv, summary_json, summary_text

_LONGEST_WAIT_S: Final = 12.0
_PICTURE_SIZE: Final = (120, 40)
_PLAY_OUT_SPEED: Final = 1e6


def print_once(args: argparse.Namespace, request: InferenceRequest | None, sources: MachineSources) -> int:
    """Print or export what the options ask for; return the exit code."""
    account = GridAccount(args.zone, today=date.today())
    predict = predictor(checkpoint=args.checkpoint, calibration=args.calibration)
    monitor_state = MonitorState(account, request)
    servers: list[dict[str, Any]] = []
    if args.campaign is not None and args.replay is None and not args.simulate and args.server is None:
        return _print_campaign(args, account, predict)  # a file is read without any GPU
    if args.replay is not None:
        path = sources.recording or demo_session()
        source = f"recording {path.name}"
        if args.export is not None and args.export.suffix in (".csv", ".svg"):
            return _export(args, path, sources, predict)
        _play_out(monitor_state, path, args)
    else:
        source = "one reading"
        servers = _read_once(monitor_state, sources)
    if args.campaign is not None:
        view = CampaignFollower(args.campaign, plan=args.plan).look()
        if view is not None:
            monitor_state.follow(view)
    _predict(monitor_state, predict)
    if args.export is not None:
        _write(args.export, summary_json(monitor_state, source=source) + "\n")
    elif args.json:
        print(summary_json(monitor_state, source=source, servers=servers))
    else:
        print("\n".join([summary_text(monitor_state, source=source), *map(server_text, servers)]))
    return 0


def _print_campaign(args: argparse.Namespace, account: GridAccount, predict: Predict) -> int:
    """Print a campaign's file, row by row, predicted beside measured; return the exit code."""
    view = CampaignFollower(args.campaign, plan=args.plan).look()
    if view is None or not view.exists or view.problem is not None:
        problem = None if view is None else view.problem
        raise InputError(problem or explain(f"there is no campaign {args.campaign}", got="no such file"))
    answers: dict[InferenceRequest, Answer] = {}
    for request in requests_of(view):
        try:
            answers[request] = predict(request)
        except LLMCO2Error as error:
            answers[request] = str(error)
    rows = campaign_rows(view, answers, account)
    if args.json:
        found = {"format": FORMAT, "version": VERSION, "campaign": campaign_data(view, rows)}
        print(json.dumps(found, indent=2, allow_nan=False))
    else:
        print(campaign_text(view, rows))
    return 0


def _read_once(monitor_state: MonitorState, sources: MachineSources) -> list[dict[str, Any]]:
    """Read the GPUs, and every server for long enough to compare; return what is known of the servers."""
    try:
        source = sources.open()
    except MeasurementError:
        if not sources.servers.urls:
            raise
        return _read_servers_alone(sources)  # a server elsewhere is predicted without a GPU here
    try:
        monitor_state.begin(source.meter.devices())
        monitor_state.read(source.meter.sample())
        if source.servers:
            _wait_for_servers(source.servers)
            monitor_state.read(source.meter.sample())
            monitor_state.measured(source.feed.request, source.feed.take())
        return [server_facts(session) for session in source.servers]
    finally:
        source.close()


def _read_servers_alone(sources: MachineSources) -> list[dict[str, Any]]:
    sessions = open_sessions(
        sources.servers, None, MonotonicClock(), sources.predict, zone_factors(sources.zone), Memory()
    )
    feed = ServerFeed(sessions, None)
    try:
        _wait_for_servers(feed.sessions)
        return [server_facts(session) for session in feed.sessions]
    finally:
        feed.close()


def _wait_for_servers(sessions: Sequence[ServerSession]) -> None:
    """Wait until every server has an interval, or cannot be read; at most as long as two slow pages take."""
    end_s = time.monotonic() + _LONGEST_WAIT_S
    while time.monotonic() < end_s:
        if all(session.last is not None or session.trouble is not None for session in sessions):
            return
        time.sleep(0.05)


def _play_out(monitor_state: MonitorState, path: Path, args: argparse.Namespace) -> None:
    session = read_session(path)
    if not session.samples:
        raise InputError(explain("the recording holds no sample", got=path.name))
    monitor_state.begin(session.devices)
    for samples in samplings(session.samples):
        monitor_state.read(samples)
    entries = recorded_entries(session)
    requests = [request_from(event.data) for event in session.events if event.name == "request"]
    if entries or requests:
        monitor_state.measured(entries[-1].request if entries else requests[-1], entries)
    taker = NoteTaker(
        account=lambda zone: GridAccount(zone, today=date.today()),
        keep_zone=args.zone is not None,
        keep_request=args.model is not None,
    )
    taker.take(monitor_state, notes_of(session))


def _predict(monitor_state: MonitorState, predict: Predict) -> None:
    for request in monitor_state.unanswered():
        try:
            monitor_state.answer(request, predict(request))
        except LLMCO2Error as error:
            monitor_state.answer(request, str(error))


def _export(args: argparse.Namespace, path: Path, sources: MachineSources, predict: Predict) -> int:
    if args.export.suffix == ".csv":
        _write(args.export, samples_csv(read_session(path).samples))
    else:
        _write(args.export, asyncio.run(_picture(args, sources, predict)))
    return 0


async def _picture(args: argparse.Namespace, sources: MachineSources, predict: Predict) -> str:
    """Return the screen at the end of the recording as SVG."""
    from llmco2_tui.app import MonitorApp  # noqa: PLC0415 - textual, for a picture only
    from llmco2_tui.options import Options  # noqa: PLC0415 - as above

    app = MonitorApp(
        MachineSources(first=sources.first, recording=sources.recording, speed=_PLAY_OUT_SPEED),
        predict,
        Options(zone=args.zone, light=args.light, names=known_names(), rate_hz=float(args.rate)),
    )
    async with app.run_test(size=_PICTURE_SIZE) as pilot:
        await settled(app, pilot)
        return app.picture()


async def settled(app: Any, pilot: Any) -> None:
    """Wait until the source is open, read, and every answer has come."""
    await app.workers.wait_for_complete()
    for _ in range(200):
        await pilot.pause(0.02)
        await app.workers.wait_for_complete()
        if app.monitor_state.ledger.gpus and not app.monitor_state.unanswered():
            break
    await pilot.pause()
    app.action_span(1)
    app.action_span(-1)
    await pilot.pause()


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(explain(f"cannot write {path}", got=error.strerror)) from error
    print(f"wrote {path}")
