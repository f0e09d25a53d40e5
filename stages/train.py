"""train: heads on stored features, one for each learning rate and weight decay; the best by validation is kept."""

from dvclive import Live  # type: ignore[attr-defined]  # it does not say that it exports it

from stages.backbones import parameters, zoo
from stages.backend import devices
from stages.classifier import head
from stages.classifier.model import curves, grid, trained
from stages.classifier.scores import Kept, TrainMetrics
from stages.classifier.training.fit import fit
from stages.common.disk.files import replacing
from stages.common.errors import run
from stages.common.settings import params
from stages.common.settings.layout import CURVES, METRICS
from stages.features.stored import records


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
    # Where it fails, the curves of the training before are still there.
    new = replacing(CURVES, folder=True)
    with new as folder, Live(str(folder), save_dvc_exp=False, dvcyaml=None, report=None) as live:
        live.step = 1  # epochs count from 1, as everywhere
        fitted = fit(built, train, valid, settings, live)
    best, (lr, weight_decay) = fitted.best, fitted.best.rule
    chosen = trained.Chosen(
        lr=lr, weight_decay=weight_decay, epochs=best.best_epoch, temperature=round(fitted.temperature, 6)
    )
    images = len(train[1]), len(valid[1])
    trained.save(built.values(), about, parameters.read_info(), settings, chosen, *images)

    kept = Kept.of(best.best_epoch, len(fitted.epochs), fitted.train, fitted.valid)
    kept.save(curves.KEPT)
    TrainMetrics.of(kept, lr, weight_decay, refit=sum(images) if settings.refit else 0).save(METRICS / "train.json")
    grid.write(fitted.trials)
    print(
        f"best of {len(fitted.trials)}: lr {lr:g}, weight decay {weight_decay:g}, epoch {best.best_epoch} of "
        f"{settings.epochs}: top-1 {fitted.train.top1:.4f} train, {fitted.valid.top1:.4f} valid"
    )


if __name__ == "__main__":
    run(main)
