"""How the processes of one training share it."""

from datetime import timedelta
from typing import Any

import torch.distributed as distributed
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from src.callbacks.figures import Figures
from src.models.optimizers import lr_factor
from src.utils.errors import UserError


class Replicated(DDPStrategy):
    """Every process holds the whole model and learns from its share of a batch; gradients are averaged (DDP).

    Args:
        timeout_s: seconds after which a process that does not answer ends the run.
        kwargs: of Lightning's ``DDPStrategy``.
    """

    def __init__(self, timeout_s: float = 1800.0, **kwargs: Any) -> None:
        super().__init__(timeout=timedelta(seconds=timeout_s), **kwargs)


class Sharded(ModelParallelStrategy):
    """Every process keeps its share of weights, gradients and optimiser states, and gathers a network when it is used
    (FSDP2, Zhao et al. 2023, arXiv:2304.11277). A checkpoint is one file with all weights, as of any other training.

    Args:
        timeout_s: seconds after which a process that does not answer ends the run.
    """

    def __init__(self, timeout_s: float = 1800.0) -> None:
        super().__init__(save_distributed_checkpoint=False, timeout=timedelta(seconds=timeout_s))

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes
        self._tensor_parallel_size = 1
        super().setup_environment()

    def setup(self, trainer: Trainer) -> None:
        model: Any = trainer.lightning_module
        if trainer.state.fn == TrainerFn.FITTING:  # a test has the whole model in every process
            callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
            if any(one.every_n_epochs for one in callbacks if isinstance(one, Figures)):
                raise UserError(
                    "trainer=fsdp draws no figures during a training, because one process alone would have to: "
                    "callbacks.figures.every_n_epochs=0"
                )
            self.shard(model)
        model.configure_model = self.shard  # where Lightning looks whether anybody has sharded it
        super().setup(trainer)

    def shard(self, model: Any) -> None:
        """Shard the networks one by one, and what is left as a whole.

        Raises:
            UserError: the model needs its networks' weights in one place, or is compiled.
        """
        divisible = model.latent.shardable and model.objective.shardable
        if not divisible or model.latent.metric is not None:
            raise UserError(
                f"trainer=fsdp cannot train {model.name}, which asks its networks for more than their output "
                "(gradients, weights, a metric fitted in one process); trainer=ddp can"
            )
        if model.compiled:
            raise UserError(
                "trainer=fsdp and compile=true do not go together; trainer=ddp compiles"
            )
        mesh = self.device_mesh["data_parallel"]
        whole = {parameter for parameter in model.parameters() if parameter.ndim == 0}
        for network in (model.latent.encoder, model.latent.decoder):
            fully_shard(network, mesh=mesh, ignored_params=whole)
        fully_shard(model, mesh=mesh, ignored_params=whole)
        for name in ("training_step", "validation_step"):
            register_fsdp_forward_method(model, name)
        for scalar in (one for one in whole if one.requires_grad):  # torch shards no scalars
            scalar.register_post_accumulate_grad_hook(_average_gradient)


def _average_gradient(parameter: Tensor) -> None:
    assert parameter.grad is not None
    distributed.all_reduce(parameter.grad)
    parameter.grad /= distributed.get_world_size()


def whole_state(model: nn.Module) -> dict[str, Any]:
    """The weights of a sharded model, all of them in every process; every process has to ask."""
    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))


def is_sharded(model: nn.Module) -> bool:
    """Whether the weights lie in several processes."""
    return isinstance(model, FSDPModule)


def batch_facts(trainer: Trainer) -> dict[str, Any]:
    """What a step of the optimiser sees and how far it goes, for ``run.json``; once the optimisers are set up."""
    model: Any = trainer.lightning_module
    size: int = trainer.datamodule.batch_size  # type: ignore[attr-defined]
    accumulated = trainer.accumulate_grad_batches
    group = trainer.optimizers[0].param_groups[0]  # with a scheduler, where it began
    return {
        "per_process": size,
        "processes": trainer.world_size,
        "accumulated": accumulated,
        "global": size * trainer.world_size * accumulated,
        "learning_rate": group.get("initial_lr", group["lr"]),
        "lr_scaling": model.lr_scaling,
    }


def asked_learning_rate(trainer: Trainer) -> float | None:
    """The learning rate that the config asks for here; None where it leaves it to the optimiser."""
    model: Any = trainer.lightning_module
    rate = model.optimizer_config.get("lr")
    return None if rate is None else rate * lr_factor(trainer, model.lr_scaling)
