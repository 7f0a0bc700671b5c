"""A large file into a bucket and out of it: through kills, and how fast beside what boto3 has for it.

    python benchmarks/bucket.py [--gib 5] [--cuts 10] [--folder FOLDER]

The S3 server is moto's, on this machine. It needs about five times the file's size on the disk.
"""

from __future__ import annotations

import argparse
import random
import runpy
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

runpy.run_path(str(ROOT / "tests" / "harness" / "package.py"))["register"]()

from comfyume.blobs.digest import digest_file  # noqa: E402
from comfyume.blobs.object_store import blob_key  # noqa: E402
from comfyume.blobs.store import BlobFolder  # noqa: E402
from comfyume.tests.harness.bucket_transfers import Outcome, make_file, transfer  # noqa: E402
from comfyume.tests.harness.s3 import S3Server  # noqa: E402

GIB = 2**30
MIB = 2**20


def tell(what: str, size: int, outcome: Outcome) -> None:
    """One line about a transfer."""
    rate = "" if outcome.cuts else f", {size / outcome.seconds / MIB:.0f} MiB/s"
    cuts = f", killed {outcome.cuts} times, {outcome.sent / size:.2f} times its size sent" if outcome.cuts else ""
    print(
        f"{what:16} last process {outcome.seconds:.1f} s{rate}{cuts}, memory grew {outcome.grown / MIB:.0f} MiB",
        flush=True,
    )


def run(folder: Path, size: int, cuts: int) -> None:
    """Measure in a folder."""
    film = folder / "film"
    digest = make_file(film, size)
    key = blob_key(digest.sha256)
    places = sorted(random.randrange(size // 20, size - size // 20) for _ in range(cuts))  # noqa: S311
    with S3Server(folder / "s3") as server:
        client = server.client()
        rates: dict[tuple[str, str], float] = {}
        for by in ("boto3", "comfyume"):
            for way in ("put", "fetch"):
                target = film if way == "put" else folder / "back"
                outcome = transfer(server, way, target, digest, by=by)
                rates[by, way] = size / outcome.seconds
                tell(f"{by} {way}", size, outcome)
            if by == "comfyume":
                path = BlobFolder(folder / "back").path(digest.sha256)
                assert path is not None
                path.unlink()
            else:
                (folder / "back").unlink()
            client.delete_object(Bucket=server.bucket, Key="plain" if by == "boto3" else key)
        for way in ("put", "fetch"):
            print(f"{way}: {rates['comfyume', way] / rates['boto3', way]:.0%} of boto3's own transfer", flush=True)
        tell("cut put", size, transfer(server, "put", film, digest, cuts=places))
        tell("cut fetch", size, transfer(server, "fetch", folder / "back", digest, cuts=places))
        path = BlobFolder(folder / "back").path(digest.sha256)
        is_equal = path is not None and digest_file(path) == digest
        print(f"hashes equal: {is_equal}")


def main() -> None:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=5)
    parser.add_argument("--cuts", type=int, default=10)
    parser.add_argument("--folder", type=Path, default=None, help="where there is room")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        run(Path(folder), int(options.gib * GIB), options.cuts)


if __name__ == "__main__":
    main()
