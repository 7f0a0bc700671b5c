"""The simulator: a recorded workshop is played as it was, whatever the policy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from comfyume.benchmarks.simulator.play import simulate
from comfyume.benchmarks.simulator.recording import Prompt, Recording, UnreadableRecording
from comfyume.benchmarks.simulator.workload import Crowd, Workshop
from comfyume.job_queue.jobs import Policy

PLAIN = Policy("fifo", affinity=0)
IMAGE = Prompt(at=0.0, user="a", kind="image", models=("klein",), load=10.0, sizes="1024x1024", runs=20.0)


@pytest.fixture
def client(store: Any) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(store.url) as made:
        yield made


def test_a_recording_that_is_written_read_and_played_gives_the_waits_of_the_workshop(
    client: redis.Redis, tmp_path: Path
) -> None:
    played = simulate(client, Crowd(Workshop(people=6, days=1, hours=1, flood=10, seed=2)), PLAIN, workers=2)
    Recording.of(played.asked, ["user001"]).write(tmp_path / "workshop.jsonl")
    recording = Recording.read(tmp_path / "workshop.jsonl")
    assert recording.flooding == ("user001",)
    again = simulate(client, recording, PLAIN, workers=2)
    assert {user: pytest.approx(waits, abs=0.05) for user, waits in played.waits.items()} == again.waits
    assert again.swaps == played.swaps


def test_the_same_prompts_come_at_the_same_times_under_every_policy(client: redis.Redis) -> None:
    recording = Recording.of(simulate(client, Crowd(Workshop(people=6, days=1, hours=1, seed=2)), PLAIN, 1).asked)
    fair = simulate(client, recording, Policy("fair"), workers=1)
    assert fair.asked == list(recording.prompts)


def test_people_who_ask_for_the_same_work_ask_for_the_same_prompts_under_every_policy(client: redis.Redis) -> None:
    workshop = Workshop(people=6, days=1, hours=1, flood=10, seed=2)
    first = Crowd(workshop)
    plain = simulate(client, first, PLAIN, workers=1)
    fair = simulate(client, Crowd(workshop, work=first.asks), Policy("fair"), workers=1)
    assert sorted((prompt.user, prompt.runs) for prompt in fair.asked) == sorted(
        (prompt.user, prompt.runs) for prompt in plain.asked
    )


def test_a_prompt_that_is_cancelled_runs_no_further_and_waits_no_longer(client: redis.Redis) -> None:
    running, waiting = replace(IMAGE, cancelled=15.0), replace(IMAGE, at=1.0, user="b", cancelled=4.0)
    outcome = simulate(client, Recording.of([running, waiting, replace(IMAGE, at=2.0, user="c")]), PLAIN, workers=1)
    assert outcome.waits == {"a": [0.0], "b": [3.0], "c": [13.0]}
    assert outcome.ended == 35.0
    assert outcome.workers[0].busy == 25.0


def test_a_cancel_that_comes_after_the_end_changes_nothing(client: redis.Redis) -> None:
    outcome = simulate(client, Recording.of([replace(IMAGE, cancelled=100.0)]), PLAIN, workers=1)
    assert outcome.ended == 30.0


def test_what_an_export_says_besides_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "workshop.jsonl"
    Recording.of([IMAGE]).write(path)
    path.write_text(path.read_text().replace('"user": "a"', '"user": "a", "job": "8f3c"'))
    assert Recording.read(path).prompts == (IMAGE,)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "line 1"),
        ('{"recording": 2}\n', "format 2"),
        ('{"recording": 1}\n{"at": 0}\n', "line 2"),
        ('{"recording": 1}\nno JSON\n', "line 2"),
    ],
)
def test_a_file_that_is_no_recording_is_refused_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "workshop.jsonl"
    path.write_text(text)
    with pytest.raises(UnreadableRecording, match=told):
        Recording.read(path)
