"""Many runs from one command: studies, worker processes, clusters. Importing this package imports no torch."""


def register_plugins() -> None:
    """Make our sweeper and launchers known to Hydra; called before it reads the command line."""
    from hydra.core.plugins import Plugins

    from src.jobs.array_sweep import ArraySweeper
    from src.jobs.slurm_launcher import SlurmLauncher
    from src.jobs.sweeper import StudySweeper
    from src.jobs.workers import ProcessLauncher

    for plugin in (StudySweeper, ProcessLauncher, SlurmLauncher, ArraySweeper):
        Plugins.instance().register(plugin)
