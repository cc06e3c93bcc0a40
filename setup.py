"""Only `pip install -e .` works: a copied installation would shadow other packages called data, models or training."""

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel

REFUSAL = (
    "autoencoders-jax is used from its checkout: packages called data, models and training, once installed, would "
    "shadow others of these names. Use `pip install -r requirements.lock` and run from the checkout, or "
    "`pip install -e .`, which comes last on the path."
)


class EditableOnly(bdist_wheel):
    """A wheel that is never written; an editable installation does not ask for one."""

    def run(self) -> None:
        """Refuse, in one line."""
        raise SystemExit(REFUSAL)


setup(cmdclass={"bdist_wheel": EditableOnly})
