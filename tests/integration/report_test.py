#!/usr/bin/env python3
"""The page of `espalier report` and the frames of `espalier watch`: report_test.py ESPALIER FIXTURES"""

import html
import json
import math
import os
import pathlib
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import fcntl

PROGRAM, FIXTURES = sys.argv[1], pathlib.Path(sys.argv[2])
KILOBYTE = 1000


def write_run(folder, steps, lr, total=None, samples=False):
    """A run folder as training writes it, with a spike that thinning must not lose."""
    folder.mkdir(parents=True)
    lines = []
    for step in range(1, steps + 1):
        loss = 1 + 3 * math.exp(-lr * step) + 0.1 * math.sin(step * 12.9898)
        if step == steps // 2:
            loss = 77.5
        lines.append({"step": step, "epoch": 0, "loss": loss, "grad_norm": 1.5 + math.sin(step), "lr": lr,
                      "tokens_per_second": 1000.0 + step % 7, "num_tokens": 512, "num_label_tokens": 256,
                      "rss_bytes": 2_000_000_000, "peak_rss_bytes": 2_100_000_000, "step_seconds": 0.5,
                      "terms": {"aux_loss": loss / 10},
                      "memory_peaks": {"parameters": 500_000_000, "activations": 90_000_000 + 1_000_000 * (step % 5)}})
    (folder / "training.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    validation = [{"step": step, "loss": 2.0 - step / steps, "seconds": 1.0} for step in range(10, steps + 1, 10)]
    (folder / "validation.jsonl").write_text("".join(json.dumps(line) + "\n" for line in validation))
    (folder / "recipe.resolved.toml").write_text(
        f'seed = 1\n[optimizer]\ntype = "adamw"\nlr = {lr}\n[step_scheduler]\nmax_steps = {total or steps}\n')
    (folder / "plugins.lock").write_text(json.dumps({"lock_version": 1, "plugins": [
        {"id": "acme.models", "version": "1.2.3", "sha256": "0123456789abcdef" * 4}]}))
    if samples:
        (folder / "samples.jsonl").write_text("".join(json.dumps({"step": step, "samples": [
            {"prompt": "A </script> B", "answer": f"<b>answer {step}</b>", "ending": "length"}]}) + "\n"
            for step in range(10, steps + 1, 10)))
    return lines, validation


def run(*words, **options):
    return subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True, **options)


def page_of(work, *runs):
    page = work / "page.html"
    result = run("report", *runs, "--output", page)
    assert result.returncode == 0, result.stderr
    text = page.read_text()
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])
    return text, data


def curve(data, title, run=0):
    """step -> value of a curve on the page."""
    (chart,) = [chart for chart in data["charts"] if chart["title"] == title]
    (found,) = [c for c in chart["curves"] if c["run"] == run]
    step, points = 0, {}
    for difference, value in zip(found["x"], found["y"]):
        step += difference
        points[step] = value
    return points


def check_page(work):
    one = write_run(work / "one", 1000, 0.01, samples=True)
    write_run(work / "two", 400, 0.02, total=1000)
    text, data = page_of(work, work / "one", work / "two")
    assert len(text.encode()) < 1000 * KILOBYTE, len(text)
    assert data["runs"] == ["one", "two"]
    for title, key in [("Training loss", "loss"), ("Learning rate", "lr"), ("Gradient norm", "grad_norm"),
                       ("Tokens per second", "tokens_per_second"), ("Memory", "rss_bytes")]:
        points = curve(data, title)
        assert sorted(points) == list(range(1, 1001)), title
        for line in one[0]:
            assert math.isclose(points[line["step"]], line[key], rel_tol=1e-5), (title, line)
    assert curve(data, "Validation loss") == {l["step"]: float(f"{l['loss']:.6g}") for l in one[1]}
    assert math.isclose(curve(data, "aux loss")[500], 7.75, rel_tol=1e-5)
    assert curve(data, "Peak memory, activations")[3] == 93_000_000
    assert not any("parameters" in chart["title"] for chart in data["charts"]), "the same in every step"
    assert data["clock"][0]["tokens"][-1] == 512000 and data["clock"][1]["seconds"][-1] == 200
    assert "curves are thinned" not in text
    # Nothing from elsewhere, and nothing of the data becomes markup.
    assert not re.search(r'(src|href)\s*=|@import|url\((?!#)|fetch\(|XMLHttpRequest', text), "something is loaded"
    assert text.replace("http://www.w3.org/2000/svg", "").count("://") == 0, "an address"
    assert text.count("</script>") == 2 and "<b>answer" not in text
    assert html.escape("A </script> B", quote=False) in text and "&lt;b&gt;answer 1000&lt;/b&gt;" in text
    assert "&lt;b&gt;answer 10&lt;/b&gt;" in text, "earlier samples"
    # Differences, plugins, how the runs stand.
    plain = re.sub(r"<[^>]*>", " ", text)
    assert re.search(r"optimizer\.lr\s+0\.01\s+0\.02", plain), "difference of the recipes"
    assert not re.search(r"optimizer\.type\s+&quot;adamw", plain.split("recipe of")[0]), "equal settings are no difference"
    assert "acme.models" in text and "0123456789ab" in text
    assert re.search(r"finished\s+1000\s+of 1000", plain) and re.search(r"stopped\s+400\s+of 1000", plain), plain[:800]
    assert re.search(r"1\s+at 1000", plain), "best validation loss"


def check_long_runs(work):
    """A long run stays small, keeps its ends and extremes, and says that it is thinned."""
    write_run(work / "long", 60000, 0.0001)
    text, data = page_of(work, work / "long")
    assert len(text.encode()) < 1000 * KILOBYTE, len(text)
    points = curve(data, "Training loss")
    assert 1000 < len(points) < 60000
    assert {1, 60000, 30000} <= set(points) and points[30000] == 77.5, "ends and the spike"
    shown, of = map(int, re.search(r"thinned: (\d+) of (\d+) points", text).groups())
    assert shown < of and of >= 60000 * 5, (shown, of)
    many = [work / f"many{i}" for i in range(12)]
    for i, folder in enumerate(many):
        write_run(folder, 1000, 0.01 * (i + 1))
    text, _ = page_of(work, *many)
    assert len(text.encode()) < 1000 * KILOBYTE, len(text)


def check_odd_logs(work):
    """Torn and damaged lines, numbers that are none, steps that come again, equal names."""
    folder = work / "odd" / "one"
    lines, _ = write_run(folder, 20, 0.01)
    log = folder / "training.jsonl"
    log.write_text(log.read_text() + "no json\n" + '{"step": 21, "loss": NaN, "grad_norm": Infinity}\n'
                   + json.dumps(lines[14] | {"loss": 5.5}) + "\n" + '{"step": 16, "lo')
    (folder / "recipe.resolved.toml").write_text("[broken")
    text, data = page_of(work, folder, work / "one")
    points = curve(data, "Training loss")
    assert max(points) == 15 and points[15] == 5.5, points
    assert "1 lines of training.jsonl" in text
    assert data["runs"] == [str(folder), str(work / "one")], data["runs"]


def check_statistics(work):
    """Statistics by block: only where a run has them, in the model's order, thinned with both ends, none where a step has none."""
    write_run(work / "plain", 20, 0.01)
    text, data = page_of(work, work / "plain")
    assert data["statistics"] == [] and 'id="blocks"' not in text
    blocks = ["model.embed_tokens"] + [f"model.layers.{i}" for i in range(30)] + ["</script>"]
    folder = work / "statistics"
    write_run(folder, 20, 0.01)
    lines = []
    for step in range(5, 3001, 5):
        gradients = {block: {"norm": step * (i + 1), "max": 1e-7 * step, "zeros": 0.25} for i, block in enumerate(blocks)}
        if step == 5:
            del gradients["model.layers.3"]
        lines.append({"step": step, "gradients": gradients,
                      "activations": {block: {"rms": 2.5, "max": "Infinity", "zeros": 0} for block in blocks[1:-1]}})
    (folder / "statistics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 3005, "gra')
    text, data = page_of(work, work / "plain", folder)
    assert len(text.encode()) < 1000 * KILOBYTE, len(text)
    assert 'id="blocks"' in text and text.count("</script>") == 2
    (found,) = data["statistics"]
    assert found["run"] == 1 and found["of"] == 600
    assert found["blocks"] == blocks
    steps = found["steps"]
    assert steps[0] == 5 and steps[-1] == 3000 and steps == sorted(set(steps)) and 20 < len(steps) < 600
    values = {q["key"]: dict(zip(found["blocks"], q["values"])) for q in found["quantities"]}
    assert set(values) == {f"{a}.{b}" for a, bs in [("gradients", ["norm", "max", "zeros"]), ("activations", ["rms", "max", "zeros"])]
                           for b in bs}
    for i, block in enumerate(blocks):
        for at, step in enumerate(steps):
            expected = None if step == 5 and block == "model.layers.3" else float(f"{step * (i + 1):.4g}")
            assert values["gradients.norm"][block][at] == expected, (block, step)
    assert values["activations.rms"]["model.layers.0"][0] == 2.5 and values["activations.rms"]["</script>"][0] is None
    assert values["activations.max"]["model.layers.0"][0] is None, "no number"


def check_bad_folders(work):
    (work / "empty").mkdir()
    (work / "no_steps").mkdir()
    (work / "no_steps" / "training.jsonl").write_text("")
    page = work / "bad.html"
    result = run("report", work / "missing", work / "empty", work / "no_steps", "--output", page)
    assert result.returncode == 2 and not page.exists()
    for words in ["there is no run folder", "is no run folder", "has made no step yet"]:
        assert words in result.stderr, result.stderr
    assert run("watch", work / "missing").returncode == 2
    assert run("report", "--output", page).returncode == 2
    result = run("report", work / "one", "--output", work / "nowhere" / "page.html")
    assert result.returncode == 5, result.stderr
    assert run("watch", work / "no_steps").stdout.count("no step yet") == 1


def width_of(line):
    return len(re.sub("\033\\[[0-9;?]*[a-zA-Z]", "", line))


def check_frames(work):
    """Every size gives a frame that fits, and the frame says what the log says."""
    for columns, rows in [(80, 24), (200, 50), (40, 10), (20, 5), (300, 12), (60, 100)]:
        result = run("watch", work / "two", env=dict(os.environ, COLUMNS=str(columns), LINES=str(rows)))
        lines = result.stdout.splitlines()
        assert result.returncode == 0 and 0 < len(lines) <= rows, (columns, rows, len(lines))
        assert max(map(width_of, lines)) <= columns, (columns, rows, result.stdout)
    frame = run("watch", work / "two", env=dict(os.environ, COLUMNS="80", LINES="24")).stdout
    for words in ["two", "step 400 of 1000, 40 %, stopped", "validation 1", "tokens/s 1001", "memory 2 GB", "aux_loss"]:
        assert words in frame, (words, frame)
    # The spike is in the middle of the loss: its column reaches the top line of the plot.
    top = next(line for line in frame.splitlines() if line.strip().startswith("77.5"))
    dots = [i for i, c in enumerate(top) if "\u2800" < c <= "\u28ff"]
    assert dots and all(35 <= i <= 50 for i in dots), (dots, top)


class Terminal:
    def __init__(self, columns, rows, *words):
        self.pid, self.file = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm"
            os.execv(PROGRAM, [PROGRAM, *map(str, words)])
        self.resize(columns, rows)
        self.seen = ""

    def resize(self, columns, rows):
        fcntl.ioctl(self.file, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def wait_for(self, words, seconds=20):
        self.wait_until(lambda: words in self.seen, words, seconds)

    def frames(self, lines):
        """Whole frames of so many lines; the rest of one that was cut off by clearing `seen` is none."""
        return [frame for frame in self.seen.split("\033[H")[1:] if frame.count("\r\n") == lines - 1]

    def wait_until(self, condition, what, seconds=20):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, (what, self.seen[-3000:])
            if select.select([self.file], [], [], 0.2)[0]:
                self.seen += os.read(self.file, 65536).decode(errors="replace")

    def press(self, key):
        self.seen = ""
        os.write(self.file, key)

    def end(self):
        """Exit status, and whether the screen was given back."""
        try:
            while True:
                self.seen += os.read(self.file, 65536).decode(errors="replace")
        except OSError:
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]), self.seen.endswith("\033[?25h\033[?1049l")


def check_following(work):
    """A terminal follows a growing log, answers keys and a new size, and is given back by q, Ctrl-C and SIGTERM."""
    folder = work / "growing"
    lines, _ = write_run(folder, 30, 0.01, total=40)
    terminal = Terminal(80, 24, "watch", folder)
    terminal.wait_for("step 30 of 40")
    with (folder / "training.jsonl").open("a") as log:
        log.write(json.dumps(lines[-1] | {"step": 31, "loss": 3.25}) + "\n")
    terminal.wait_for("step 31 of 40")
    terminal.wait_for("loss 3.25")
    # A resumed run takes steps back by writing the file anew.
    (folder / "new").write_text("".join(json.dumps(line) + "\n" for line in lines[:12]))
    os.replace(folder / "new", folder / "training.jsonl")
    terminal.wait_for("step 12 of 40")
    terminal.press(b"l")
    terminal.wait_for("log scale")
    terminal.press(b"w")
    terminal.wait_for(" 7")
    terminal.seen = ""
    terminal.resize(50, 12)
    terminal.wait_until(lambda: any("latest steps" in frame for frame in terminal.frames(12)), "a frame of 12 lines")
    for frame in terminal.frames(12):
        assert max(map(width_of, frame.split("\r\n"))) <= 50, frame
    terminal.press(b"q")
    assert terminal.end() == (0, True)
    for leave in [lambda t: t.press(b"\x03"), lambda t: os.kill(t.pid, signal.SIGTERM)]:
        terminal = Terminal(80, 24, "watch", folder)
        terminal.wait_for("step 12 of 40")
        leave(terminal)
        assert terminal.end() == (0, True)


def main():
    with tempfile.TemporaryDirectory() as temporary:
        work = pathlib.Path(temporary)
        for check in [check_page, check_long_runs, check_statistics, check_odd_logs, check_bad_folders, check_frames, check_following]:
            check(work)
            print(check.__name__)


if __name__ == "__main__":
    main()
