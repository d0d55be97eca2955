"""What docs/operate/backup.md says of PostgreSQL and Redis: save, lose everything, restore, find it again."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from tests.support.cluster import START, Cluster, running_cluster
from tests.support.postgres import Postgres
from tests.support.rawhttp import post
from tests.support.redis_server import RedisServer
from tests.support.whook_process import WhookProcess

DATABASES = ("auth", "conductor")


def wait_until(look: Callable[[], object]) -> None:
    """Ask again and again: of these programs nobody tells when it is so."""
    ends = time.monotonic() + START
    while not look():
        assert time.monotonic() < ends
        time.sleep(0.1)


def run(server: Postgres, program: str, *arguments: str) -> None:
    """Run one of PostgreSQL's own programs."""
    done = subprocess.run(
        [server.programs / program, *arguments], capture_output=True, text=True, check=False, timeout=START
    )
    assert done.returncode == 0, done.stderr


def whook(cluster: Cluster, folder: Path, *arguments: str) -> list[str]:
    """Run a command of the client to its end; give what it printed."""
    options = ("--server", cluster.api())
    env = {"WHOOK_TOKEN": cluster.token}
    with WhookProcess(*arguments, *options, home=folder, env=env) as process:
        assert process.wait() == 0, process.story()
        return process.output


def policy(cluster: Cluster, folder: Path) -> list[str]:
    """Give what is shown of the project, but for how long something has waited."""
    lines = whook(cluster, folder, "projects", "show", "shop")
    assert any(line.startswith("waiting") and " 1 (" in line for line in lines), lines
    return [line for line in lines if not line.startswith("waiting")]


def connect(cluster: Cluster, folder: Path, until: str) -> None:
    """Connect until something has been said, and leave."""
    options = ("connect", "shop", "--json", "--server", cluster.api())
    with WhookProcess(*options, home=folder, env={"WHOOK_TOKEN": cluster.token}) as process:
        process.wait_event(until, seconds=START)
        assert process.stop() == 0, process.story()


def lose_and_restore_postgresql(cluster: Cluster, folder: Path) -> None:
    server = cluster.postgres
    for name in DATABASES:
        run(server, "pg_dump", "--format=custom", f"--file={folder / name}.dump", server.url(name))
    for name in DATABASES:
        server.execute(server.url(), f"DROP DATABASE {name} WITH (FORCE)")
        run(server, "pg_restore", "--no-owner", f"--dbname={server.database(name)}", f"{folder / name}.dump")


def lose_and_restore_redis(server: RedisServer, folder: Path) -> None:
    place = server.socket.parent
    with server.client() as client:
        before = client.lastsave()
        client.bgsave()
        wait_until(lambda: client.lastsave() != before and client.info()["rdb_bgsave_in_progress"] == 0)
    shutil.copy(place / "dump.rdb", folder / "dump.rdb")
    server.kill()
    for found in place.iterdir():
        shutil.rmtree(found) if found.is_dir() else found.unlink()

    shutil.copy(folder / "dump.rdb", place / "dump.rdb")
    plain = RedisServer(place)
    plain.start()
    with plain.client() as client:
        client.config_set("appendonly", "yes")
        wait_until(lambda: written(client))
    plain.kill()
    (place / "dump.rdb").unlink()
    server.start()


def written(client: redis.Redis) -> bool:
    """Whether the append-only file is whole."""
    state = client.info("persistence")
    running = state["aof_rewrite_in_progress"] or state["aof_rewrite_scheduled"]
    return bool(state["aof_enabled"]) and not running and state["aof_last_bgrewrite_status"] == "ok"


@pytest.mark.slow_deploy
def test_a_cluster_that_lost_its_databases_is_restored(tmp_path: Path) -> None:
    with running_cluster(tmp_path, conductors=1, relays=1, durable=True, balanced=False) as cluster:
        connect(cluster, tmp_path / "client", "ready")
        answer = post(cluster.ingress[0], b"shop.localhost", b"paid")
        assert answer.status == 202
        wait_until(
            lambda: any("buffered" in line for line in whook(cluster, tmp_path, "events", "list", "shop"))
        )
        [listed] = whook(cluster, tmp_path, "events", "list", "shop")

        shown = policy(cluster, tmp_path)

        saved = tmp_path / "saved"
        saved.mkdir()
        for member in cluster.members:
            assert member.terminate() == 0
        lose_and_restore_postgresql(cluster, saved)
        lose_and_restore_redis(cluster.redis, saved)

        for member in cluster.members:
            member.start()
        for member in cluster.members:
            member.wait_ready()
        assert policy(cluster, tmp_path) == shown
        assert whook(cluster, tmp_path, "events", "list", "shop") == [listed]
        connect(cluster, tmp_path / "client", "caught-up")
        wait_until(
            lambda: any("answered" in line for line in whook(cluster, tmp_path, "events", "list", "shop"))
        )
