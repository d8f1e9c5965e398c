import subprocess
import sys

import pytest
from pydantic import BaseModel, ValidationError

from onoma.cli.main import VERBS, explain

PROBE = """
import resource, sys
sys.argv = ["onoma", "--help"]
from onoma.cli.main import main
try:
    main()
except SystemExit as left:
    assert not left.code
used = resource.getrusage(resource.RUSAGE_SELF)
heavy = sorted({"torch", "numpy", "polars", "scipy"} & set(sys.modules))
print("PROBE", used.ru_utime + used.ru_stime, *heavy)
"""


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=True, timeout=60
    )
    _, seconds, *heavy = done.stdout.strip().splitlines()[-1].split()
    assert not heavy
    assert float(seconds) < 0.5
    assert all(verb in done.stdout for verb in VERBS)


def test_package_is_light_and_complete() -> None:
    code = (
        "import sys, onoma; assert not {'torch', 'numpy', 'polars'} & set(sys.modules);"
        "import onoma.run; assert callable(onoma.run) and callable(onoma.open_run);"
        "assert all(hasattr(onoma, name) for name in onoma.__all__)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(onoma, verb: str) -> None:
    code, out, _ = onoma(verb, "--help")
    assert code == 0
    assert "Usage: onoma " + verb in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nonsense"], "nonsense"),
        (["run"], "recipe"),
        (["run", "nonsense"], "no recipe is called 'nonsense'"),
        (["run", "markov"], "no data is named"),
        (["run", "markov", "--data", "/nowhere"], "/nowhere"),
        (["run", "markov", "seed"], "key=value"),
        (["run", "markov", "seed=-1"], "seed"),
        (["run", "markov", "--wrong"], "--wrong"),
        (["evaluate", "/nowhere"], "not a run directory"),
        (["compare", "/nowhere"], "two runs"),
        (["recommend", "/nowhere", "--user", "1"], "not a run directory"),
        (["recommend", "/nowhere"], "--user or --history"),
        (["recommend", "/nowhere", "--user", "1", "-k", "0"], "-k"),
        (["index", "health", "/nowhere"], "no names"),
        (["systems", "--status", "wrong"], "planned or ready"),
        (["systems", "nothing has this word"], "no system"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(onoma, words: list[str], said: str) -> None:
    code, out, err = onoma(*words)
    assert code == 2
    assert out == ""
    assert said in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_terminal_codes_in_a_message_are_not_passed_on(onoma) -> None:
    code, _, err = onoma("run", "\x1b[2Jx\ny")
    assert code == 2
    assert "\x1b" not in err
    assert err.count("\n") == 1


def test_a_defect_is_told_from_bad_input() -> None:
    class Model(BaseModel):
        a: int

    with pytest.raises(ValidationError) as wrong:
        Model.model_validate({"a": "x"})
    line, code = explain(wrong.value)
    assert code == 2
    assert "a: " in line
    line, code = explain(ZeroDivisionError("division by zero"))
    assert code == 1
    assert "defect" in line
    assert explain(PermissionError(13, "Permission denied", "/x")) == ("/x: Permission denied", 2)


def test_interruption_leaves_with_130(onoma, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("onoma.cli.systems.load", stop)
    code, _, err = onoma("systems")
    assert code == 130
    assert "Traceback" not in err
