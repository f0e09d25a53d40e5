"""train: the head, on stored features; the epoch with the best validation accuracy is kept."""

from dvclive import Live  # type: ignore[attr-defined]  # it does not say that it exports it

from stages.backbones import parameters, zoo
from stages.backend import devices
from stages.classifier import curves, head, trained
from stages.classifier.fit import fit
from stages.classifier.scores import Kept, TrainMetrics, score
from stages.common import params
from stages.common.errors import run
from stages.common.layout import CURVES, METRICS
from stages.features import records


def main() -> None:
    given = params.load()
    settings = given.train
    about = records.FeaturesInfo.load(records.ABOUT)
    train, valid = records.read("train"), records.read("valid")

    # On the CPU one network with all cores, on GPUs one each.
    names = devices.resolve(given.runtime.devices, "auto")
    contexts = [devices.context(name) for name in names if name == names[0] or name.startswith("gpu")]
    network = zoo.load(about.backbone, sha256=about.weights)
    built = head.build(network, about.cut, len(about.classes), settings.dropout, settings.trainable, contexts)
    with Live(str(CURVES), save_dvc_exp=False, dvcyaml=None, report=None) as live:
        live.step = 1  # epochs count from 1, as everywhere
        fitted = fit(built, train, valid, settings, live)
    trained.save(built, about, parameters.read_info(), settings, len(train[1]), len(valid[1]))

    on_train, on_valid = (score(built.blocks(features), labels) for features, labels in (train, valid))
    kept = Kept.of(fitted.best_epoch, on_train, on_valid)
    kept.save(curves.KEPT)
    TrainMetrics.of(kept).save(METRICS / "train.json")
    print(
        f"best epoch {fitted.best_epoch} of {settings.epochs}: "
        f"top-1 {on_train.top1:.4f} train, {on_valid.top1:.4f} valid"
    )


if __name__ == "__main__":
    run(main)
