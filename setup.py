"Reads settings.ini, the one place for requirements, extras and console scripts; the rest stands in pyproject.toml"
from configparser import ConfigParser
from pathlib import Path
from setuptools import setup, find_packages

cfg = ConfigParser(delimiters='=', comment_prefixes='#', interpolation=None)
cfg.read(Path(__file__).parent/'settings.ini', encoding='utf-8')
own = lambda s: {k:v for k,v in cfg.items(s) if k not in cfg.defaults()}

setup(
    description=cfg['DEFAULT']['description'], packages=find_packages(include=['cv_recipe', 'cv_recipe.*']), package_data=dict(cv_recipe=['measured.csv', 'widgets.js', 'widgets.css', 'labs/*.ipynb']),
    install_requires=cfg['DEFAULT']['requirements'].split(),
    extras_require={k: v.split() for k,v in own('extras').items()},
    entry_points={'console_scripts': [f'{k}={v}' for k,v in own('scripts').items()], 'nbdev': ['cv_recipe=cv_recipe._modidx:d']})
