"A notebook's lesson cells can lend names to its exported functions; the module alone then lacks them. This finds such names."
import builtins, dis, sys
from importlib import import_module
from pathlib import Path


def code_objects(c):
    yield c
    for o in c.co_consts:
        if hasattr(o, 'co_code'): yield from code_objects(o)


def missing(path):
    known = {*vars(import_module(f'{path.parent.name}.{path.stem}')), *dir(builtins)}
    for c in code_objects(compile(path.read_text(), path, 'exec')):
        for i in dis.get_instructions(c):
            if i.opname=='LOAD_GLOBAL' and i.argval not in known: yield i.argval,c.co_name


if __name__=='__main__':
    sys.path.insert(0, '.')
    modules = [p for p in sorted(Path(sys.argv[1]).glob('*.py')) if p.stem!='_modidx']
    bad = [f'{p.name}: {n} in {f} is not known' for p in modules for n,f in missing(p)]
    print('\n'.join(bad) or f'{len(modules)} modules know all their names')
    sys.exit(bool(bad))
