"""Small LeRobot datasets, written as their real writers lay them out; every frame tells in blocks which one it is."""

import io
import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

FPS = 10
JOINTS = ["shoulder_pan.pos", "shoulder_lift.pos", "gripper.pos"]
BLOCKS = 4  # 4 x 4 blocks are 16 bits: 7 of the frame, 5 of the episode, 4 of the camera
TICKS = 12800


def code(episode: int, frame: int, camera: int = 0) -> int:
    return frame | episode << 7 | camera << 12


def picture(number: int, height: int = 64, width: int = 64) -> np.ndarray:
    bits = (number >> np.arange(BLOCKS**2)) & 1
    blocks = np.where(bits, 220, 30).astype(np.uint8).reshape(BLOCKS, BLOCKS)
    grey = np.kron(blocks, np.ones((height // BLOCKS, width // BLOCKS), np.uint8))
    return np.stack([grey] * 3, axis=-1)


def read_code(frame: np.ndarray) -> int:
    """The number in a picture of any size."""
    height, width = (size // BLOCKS * BLOCKS for size in frame.shape[:2])
    blocks = frame[:height, :width].mean(-1)
    blocks = blocks.reshape(BLOCKS, height // BLOCKS, BLOCKS, width // BLOCKS).mean((1, 3))
    return int(((blocks.reshape(-1) > 125) << np.arange(BLOCKS**2)).sum())


def write_video(
    file: Path,
    pictures: list[np.ndarray],
    times: list[float],
    codec: str = "libx264",
    form: str = "mp4",
) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    # Key frames are rare and frames are reordered, as in the hub's videos.
    options = {
        "libx264": {"g": "8", "bf": "2", "crf": "20"},
        "libsvtav1": {"g": "8", "preset": "12", "crf": "30"},
    }
    with av.open(str(file), "w", format=form) as container:
        stream = container.add_stream(codec, rate=FPS, options=options[codec])
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, TICKS)
        for image, time in zip(pictures, times, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = round(time * TICKS), Fraction(1, TICKS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def png(image: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(image).save(data, "png")
    return data.getvalue()


class Dataset:
    """Writes one dataset.

    Args:
        root: its folder.
        lengths: of the episodes.
        cameras: key → "video" or "image".
        size: (height, width) of all pictures.
        names: of the joints, in any form that info.json may have them.
        discrete: the action is one whole number instead of a vector.
    """

    def __init__(
        self, root, lengths, cameras=None, size=(64, 64), names=JOINTS, discrete=False,
        codec="libx264", extra=(), robot="so101_follower",
    ):  # fmt: skip
        self.root, self.lengths, self.size, self.codec = Path(root), lengths, size, codec
        self.cameras = {"observation.images.front": "video"} if cameras is None else cameras
        self.names, self.discrete, self.extra, self.robot = names, discrete, extra, robot
        rng = np.random.default_rng(0)
        self.state = [rng.normal(0, 1, (n, 3)).astype(np.float32) for n in lengths]
        self.velocity = [rng.integers(-1, 2, (n, 3)) for n in lengths]

    def rows(self, episode):
        n, start = self.lengths[episode], sum(self.lengths[:episode])
        vector = pa.list_(pa.float32(), 3)
        action = self.state[episode] + self.velocity[episode] / FPS
        columns = {
            "observation.state": pa.array(self.state[episode].tolist(), vector),
            "action": pa.array(np.arange(n) % 3 + 2)
            if self.discrete
            else pa.array(action.tolist(), pa.list_(pa.float32())),
            "timestamp": pa.array(np.arange(n, dtype=np.float32) / FPS),
            "frame_index": pa.array(np.arange(n)),
            "episode_index": pa.array(np.full(n, episode)),
            "index": pa.array(np.arange(n) + start),
            "task_index": pa.array(np.zeros(n, np.int64)),
        }
        if "next.reward" in self.extra:
            columns["next.reward"] = pa.array(np.arange(n, dtype=np.float32))
            columns["next.done"] = pa.array(np.arange(n) == n - 1)
        for number, (key, kind) in enumerate(self.cameras.items()):
            if kind == "image":
                cells = [
                    {"bytes": png(image), "path": f"frame_{i:06d}.png"}
                    for i, image in enumerate(self.pictures(episode, number))
                ]
                columns[key] = pa.array(cells)
        return pa.table(columns)

    def pictures(self, episode, camera=0):
        n = self.lengths[episode]
        return [picture(code(episode, i, camera), *self.size) for i in range(n)]

    def features(self):
        whole = {"dtype": "int64", "shape": [1], "names": None}
        real = {"dtype": "float32", "shape": [3], "names": self.names}
        features = {
            "observation.state": real,
            "action": {"dtype": "int64", "shape": [1], "names": ["choice"]}
            if self.discrete
            else real,
            "timestamp": {"dtype": "float32", "shape": [1], "names": None},
        }
        for key in ("frame_index", "episode_index", "index", "task_index"):
            features[key] = whole
        if "next.reward" in self.extra:
            features["next.reward"] = {"dtype": "float32", "shape": [1], "names": None}
            features["next.done"] = {"dtype": "bool", "shape": [1], "names": None}
        for number, (key, kind) in enumerate(self.cameras.items()):
            height, width = self.size
            channels_first = number % 2
            features[key] = {
                "dtype": kind,
                "shape": [3, height, width] if channels_first else [height, width, 3],
                "names": ["channels", "height", "width"]
                if channels_first
                else ["height", "width", "channels"],
                "info": {"video.fps": FPS, "video.codec": "h264", "has_audio": False},
            }
        return features

    def info(self, version, data_path, video_path, more):
        is_film = "video" in self.cameras.values()
        return {
            "codebase_version": version,
            "robot_type": self.robot,
            "fps": FPS,
            "total_episodes": len(self.lengths),
            "total_frames": sum(self.lengths),
            "total_tasks": 1,
            "chunks_size": 1000,
            "splits": {"train": f"0:{len(self.lengths)}"},
            "data_path": data_path,
            "video_path": video_path if is_film else None,
            "features": self.features(),
            **more,
        }

    def v21(self, **info):
        """One file for each episode; ``chunks_size`` may put them into several chunks."""
        told = self.info(
            "v2.1",
            "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
            "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
            info,
        )
        self.write_json("meta/info.json", told)
        episodes = []
        for episode, length in enumerate(self.lengths):
            chunk = episode // told["chunks_size"]
            self.write_table(
                f"data/chunk-{chunk:03d}/episode_{episode:06d}.parquet", self.rows(episode)
            )
            for number, (key, kind) in enumerate(self.cameras.items()):
                if kind == "video":
                    file = self.root / f"videos/chunk-{chunk:03d}/{key}/episode_{episode:06d}.mp4"
                    times = [i / FPS for i in range(length)]
                    write_video(file, self.pictures(episode, number), times, self.codec)
            episodes.append({"episode_index": episode, "tasks": ["Lift it"], "length": length})
        self.write_lines("meta/episodes.jsonl", episodes)
        self.write_lines("meta/tasks.jsonl", [{"task_index": 0, "task": "Lift it"}])
        stats = [{"episode_index": e, "stats": {}} for e in range(len(self.lengths))]
        self.write_lines("meta/episodes_stats.jsonl", stats)
        return self.root

    def v30(self, files, gap=0.037, row_group_size=7, **info):
        """Episodes ``files[k]`` share file k, of data and of each video; ``gap`` seconds are between two of them."""
        self.write_json(
            "meta/info.json",
            self.info(
                "v3.0",
                "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
                "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
                info,
            ),
        )
        rows = []
        for number, episodes in enumerate(files):
            self.write_table(
                f"data/chunk-000/file-{number:03d}.parquet",
                pa.concat_tables([self.rows(episode) for episode in episodes]),
                row_group_size=row_group_size,
            )
            starts = self.film(number, episodes, gap)
            rows += [self.episode_row(episode, number, starts[episode]) for episode in episodes]
        self.write_table("meta/episodes/chunk-000/file-000.parquet", pa.Table.from_pylist(rows))
        self.write_table(
            "meta/tasks.parquet", pa.table({"task_index": [0], "__index_level_0__": ["Lift it"]})
        )
        self.write_json("meta/stats.json", {})
        return self.root

    def film(self, number, episodes, gap):
        """Write file ``number`` of every video camera → where its episodes begin."""
        starts, times, start = {}, [], 0.0
        for episode in episodes:
            starts[episode] = start
            times += [start + i / FPS for i in range(self.lengths[episode])]
            start = times[-1] + 1 / FPS + gap
        for camera, (key, kind) in enumerate(self.cameras.items()):
            if kind == "video":
                shots = [image for episode in episodes for image in self.pictures(episode, camera)]
                file = self.root / f"videos/{key}/chunk-000/file-{number:03d}.mp4"
                write_video(file, shots, times, self.codec)
        return starts

    def episode_row(self, episode, number, start):
        first, length = sum(self.lengths[:episode]), self.lengths[episode]
        row = {
            "episode_index": episode,
            "tasks": ["Lift it"],
            "length": length,
            "data/chunk_index": 0,
            "data/file_index": number,
            "dataset_from_index": first,
            "dataset_to_index": first + length,
            "stats/action/min": [0.0] * 3,
            "stats/observation.images.front/mean": [[[0.5]], [[0.5]], [[0.5]]],
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
        }
        for key, kind in self.cameras.items():
            if kind == "video":
                row |= {
                    f"videos/{key}/chunk_index": 0,
                    f"videos/{key}/file_index": number,
                    f"videos/{key}/from_timestamp": start,
                    f"videos/{key}/to_timestamp": start + length / FPS,
                }
        return row

    def log(self, episode, decisions, joint="shoulder_pan.pos", duration=0.2, delta=0.1):
        """The decisions of a policy, as (frame, choice)."""
        header = {
            "type": "header",
            "joint_name": joint,
            "action_duration": duration,
            "position_delta": delta,
            "calibrated": True,
        }
        lines = [
            {
                "type": "action",
                "timestamp": 1.7e9 + at / FPS,
                "discrete_action": choice,
                "frame_index": at,
            }
            for at, choice in decisions
        ]
        self.write_lines(f"meta/discrete_action_logs/episode_{episode:06d}.jsonl", [header, *lines])

    def write_table(self, name, table, **options):
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, file, **options)

    def write_json(self, name, value):
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(value, indent=4))

    def write_lines(self, name, rows):
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
