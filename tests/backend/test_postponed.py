"""MXNet's operators are compiled when they are first called, and then are what they were."""

from stages.backend.mx import mx
from stages.backend.postponed import MODULES
from tests.backend.sites import python


def test_importing_mxnet_compiles_no_operator_and_leaves_importing_as_it_was():
    program = f"""
import builtins, sys
import numpy
compiled, finders = [], list(sys.meta_path)
real = builtins.exec
builtins.exec = lambda code, *names: (compiled.append(code) if isinstance(code, str) else None, real(code, *names))[1]
from stages.backend.mx import mx
mx.nd.ones
assert sys.meta_path == finders
assert all(callable(sys.modules[name].exec) for name in {MODULES})
print(sum("def Convolution(" in code or "def relu(" in code for code in compiled), len(compiled) < 100)
mx.nd.relu(mx.nd.ones(1))
print(sum("def Convolution(" in code or "def relu(" in code for code in compiled))
"""
    assert python("-c", program) == (0, "0 True\n1\n", "")


def test_operators_are_called_named_and_documented_as_ever():
    assert mx.nd.relu(mx.nd.array([-1, 2])).asnumpy().tolist() == [0, 2]
    assert mx.nd.relu(mx.nd.array([-1, 3])).asnumpy().tolist() == [0, 3]
    for operators in (mx.nd, mx.sym):
        assert operators.Convolution.__name__ == "Convolution"
        assert "num_filter" in operators.Convolution.__doc__
    assert mx.sym.Convolution(mx.sym.var("x"), num_filter=2, kernel=(1, 1), name="c").list_arguments() == [
        "x",
        "c_weight",
        "c_bias",
    ]


def test_what_an_operator_refuses_it_refuses_as_ever():
    for wrong in (lambda: mx.nd.relu(1), lambda: mx.sym.Convolution(mx.sym.var("x"), num_filter="many", kernel=(1, 1))):
        try:
            wrong()
        except Exception as error:
            assert type(error).__name__ in ("AssertionError", "MXNetError", "ValueError", "TypeError")
        else:
            raise AssertionError("taken")
