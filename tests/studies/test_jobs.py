"""Jobs: listed as the configuration says, done once, kept for what they were made for."""

import pytest
import yaml

from ttlib.studies import jobs

CONFIG = {
    "datasets": ["local:hopper-medium", "minari:mujoco/hopper/medium-v0"],
    "methods": ["bc", "tt"],
    "seeds": [0],
    "seeds_of": {"bc": [0, 1]},
    "only": {"tt": ["local:hopper-medium"]},
    "environments": {"local:hopper-medium": "Hopper-v4"},
    "evaluation": {"rollouts": 2},
    "settings": {"bc": {"updates": 3}},
}
METHODS = ["bc", "tt", "iql"]


def test_jobs_are_listed_by_data_set_method_and_seed():
    found = jobs.listed(CONFIG, METHODS)
    assert list(found) == [
        "hopper-medium-bc-0",
        "hopper-medium-bc-1",
        "hopper-medium-tt-0",
        "minari_mujoco_hopper_medium-v0-bc-0",
        "minari_mujoco_hopper_medium-v0-bc-1",
    ]
    job = found["hopper-medium-bc-1"]
    assert job["seed"] == 1 and job["settings"] == {"updates": 3} and job["env_id"] == "Hopper-v4"
    assert found["hopper-medium-tt-0"]["settings"] == {}


def test_a_record_that_lacks_jobs_says_which(tmp_path):
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies/mine.yaml").write_text(yaml.safe_dump({"mine": CONFIG}))
    rows = [{"dataset": "local:hopper-medium", "method": "bc", "seed": 0}]
    lacking = jobs.lacking("mine", rows, tmp_path)
    assert lacking == ["tt on hopper-medium", "bc on minari_mujoco_hopper_medium-v0"]
    every = [{"dataset": job["dataset"], "method": job["method"]} for job in jobs.listed(CONFIG, METHODS).values()]
    assert jobs.lacking("mine", every, tmp_path) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"rollout": 3}, "the setting 'rollout'"),
        ({"methods": ["bc", "bcc"]}, "the method 'bcc' in methods; its data sets are .*, its methods bc, tt, iql"),
        ({"settings": {"icl": {}}}, "the method 'icl' in settings"),
        ({"settings": {"tt": {"hopper-medum": {"horizon": 5}}}}, "the body or set 'hopper-medum' in settings of tt"),
        ({"evaluation": {"rollouts": 1, "hoper": {"rollouts": 3}}}, "the body or set 'hoper' in evaluation"),
        ({"only": {"tt": ["local:hoper"]}}, "the data set 'local:hoper' in only; .* must change `only`, too"),
    ],
)
def test_a_name_that_means_nothing_is_refused(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        jobs.listed(CONFIG | change, METHODS)


def test_a_job_is_done_once(tmp_path):
    job = jobs.listed(CONFIG, METHODS)["hopper-medium-bc-0"]
    calls = []

    def work(job, folder):
        calls.append((folder / "half").exists())
        (folder / "half").write_text("half-done")
        if len(calls) == 1:
            raise KeyboardInterrupt
        return {"score": 1.5}

    with pytest.raises(KeyboardInterrupt):
        jobs.do("study", job, work, tmp_path)
    output = tmp_path / "build/studies/study/hopper-medium-bc-0.json"
    assert not output.exists()
    with pytest.raises(FileNotFoundError, match="hopper-medium-bc-0.json is missing; run `make study NAME=study`"):
        jobs.results("study", {"hopper-medium-bc-0": job}, tmp_path)
    assert jobs.do("study", job, work, tmp_path)["score"] == 1.5
    assert calls == [False, True]  # the second call found what the first had kept
    output.unlink()  # as Snakemake does with the output of a job that it did not see ending
    jobs.do("study", job, work, tmp_path)
    assert len(calls) == 2 and jobs.results("study", {"hopper-medium-bc-0": job}, tmp_path)[0]["score"] == 1.5


def test_a_job_with_other_settings_is_done_anew(tmp_path):
    job = jobs.listed(CONFIG, METHODS)["hopper-medium-bc-0"]
    jobs.do("study", job, lambda job, folder: (folder / "half").write_text("x") and {"score": 1}, tmp_path)
    other = job | {"settings": {"updates": 4}}
    with pytest.raises(ValueError, match="was made with other settings"):
        jobs.results("study", {"hopper-medium-bc-0": other}, tmp_path)
    found = jobs.do("study", other, lambda job, folder: {"score": 2, "clean": not (folder / "half").exists()}, tmp_path)
    assert found["score"] == 2 and found["clean"]


def test_half_a_result_does_not_count(tmp_path):
    job = jobs.listed(CONFIG, METHODS)["hopper-medium-bc-0"]
    jobs.do("study", job, lambda job, folder: {"score": 1}, tmp_path)
    for path in (tmp_path / "build").rglob("*.json"):
        if path.name != "job.json":
            path.write_text(path.read_text()[:20])
    with pytest.raises(ValueError, match="delete it"):
        jobs.results("study", {"hopper-medium-bc-0": job}, tmp_path)
    assert jobs.do("study", job, lambda job, folder: {"score": 2}, tmp_path)["score"] == 2


def test_lines_are_told_apart_and_not_too_often(capsys):
    tell = jobs.Teller({"dataset": "local:x", "method": "bc", "seed": 3}, every=1000)
    tell("first")
    tell("second")
    tell("third", now=True)
    lines = capsys.readouterr().err.splitlines()
    assert [line.rpartition(" (")[0] for line in lines] == ["x-bc-3: first", "x-bc-3: third"]
