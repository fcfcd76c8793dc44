"""Recall and false alarms of `verify`, and of others, on faults planted in real pipelines and on clean twins.

    python bench/faults/run.py run --what faults|twins [--mode quick|full] [--seed S] [--part k/n] [--n N] [--tools verify,torchtest2,checklist,audit] [--data DIR] [--weights FILE] [--out faults.jsonl]
    python bench/faults/run.py table faults.jsonl...
    python bench/faults/run.py tenth [--cache DIR]
    python bench/faults/run.py list

`run` asks each tool about each case, in a pool of processes: one JSON line a case and tool, with the verdicts, the first failing finding, seconds, and versions. A line that is there for the same commit and sources is not made again (`--any-commit` takes those of others). A case that raises, hangs or dies is a line with an error. `table` prints markdown. `tenth` is a fixed tenth on scikit-learn's images alone; it ends with an error if recall is too low or alarms are too many.
`--data` is a folder of unpacked data sets (trashnet, cifar10, elpv_solar, camvid, bccd, playing_cards; as far as there), `--weights` a file of mobilenetv2_100; without it, a small network that the bench trains itself counts as pretrained. `--rivals` is a folder with torchtest2, neural_net_checklist and torch_audit, where they are not installed.
A *fail* alone counts as a catch or an alarm. A case that a tool cannot run on is no catch; such cases are counted apart.
"""
import argparse, collections, hashlib, json, multiprocessing, os, platform, random, statistics, subprocess, sys, tempfile, time, traceback
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import wait
from pathlib import Path

HERE = Path(__file__).resolve().parent
TENTH = dict(recall=.9, named=.8, alarms=.1, warns=.5)   # what CI asks for: a few cases say little, so less than of all

def sources(*folders):
    "A hash of the code in folders"
    return hashlib.blake2b(b''.join(p.read_bytes() for f in folders for p in sorted(Path(f).glob('*.py'))), digest_size=4).hexdigest()

def provenance(threads):
    git = lambda *o: subprocess.run(['git', *o], capture_output=True, text=True, cwd=HERE).stdout.strip()
    def v(m):
        try: return version(m)
        except PackageNotFoundError: return None
    import cv_recipe
    code = sources(Path(cv_recipe.__file__).parent, HERE)
    return dict(commit=git('rev-parse', '--short', 'HEAD'), code=code, python=platform.python_version(), machine=platform.machine(), threads=threads, **{m: v(m) for m in ('torch','fastai','timm','cv_recipe','torchtest2','neural-net-checklist','torch-audit')})

# --- Cases

def cases(what, seed, n):
    if what=='twins': return [dict(what=what, id=f'twin{i}', i=i, seed=seed) for i in range(n)]
    from bench.faults.faults import CASES
    return [dict(what=what, id=f'{f.slug}/{f.name}/{p}', slug=f.slug, fault=f.name, pipe=p, seed=seed) for f,p in CASES]

def part(items, k, n):
    "The k-th of n parts, which are alike"
    order = list(range(len(items)))
    random.Random(0).shuffle(order)
    return [items[i] for i in sorted(order[k-1::n])]

def made(case, store):
    "The Learner of a case, what tools are told, and how the case came about"
    from bench.faults.pipes import build
    if case['what']=='twins':
        from bench.faults.twins import twin
        d,notes = twin(case['i'], store, case['seed'])
    else:
        from bench.faults.faults import CASES, faulty
        f = next(f for f,p in CASES if f.name==case['fault'] and p==case['pipe'] and f.slug==case['slug'])
        d = faulty(f, case['pipe'], store, case['seed']); notes = d.notes
    learn = build(d)
    return learn,dict(kind=d.kind, c=d.c, lr=d.told_lr),dict(pipe=d.pipe, data=d.data.name, arch=type(learn.model).__name__ if d.model else 'mobilenetv2_100' if d.pretrained and d.store.weights and d.arch!='test_resnet' else d.arch, bs=d.bs, rows=len(d.tr), notes=notes)

def asked(case, tool, mode, store):
    "What a tool says about a case"
    from bench.faults.tools import TOOLS
    t = time.perf_counter()
    learn,about,line = made(case, store)
    line['build_s'] = round(time.perf_counter()-t, 2)
    t,cpu = time.perf_counter(),time.process_time()
    try: line |= TOOLS[tool](learn, about, mode)
    except Exception as e: line |= dict(error=f'{type(e).__name__}: {str(e)[:200]}', where=traceback.format_exc(limit=-2)[-300:])
    line |= dict(seconds=round(time.perf_counter()-t, 2), cpu=round(time.process_time()-cpu, 2))
    if line.get('fails'): line['first'] = line['fails'][0]
    return line

# --- Workers

def work(conn, a):
    "Ask as told, until there is nothing more"
    import warnings
    warnings.simplefilter('ignore')
    null = open(os.devnull, 'w')
    os.dup2(null.fileno(), 1); os.dup2(null.fileno(), 2)
    import torch
    torch.set_num_threads(a.threads)
    from bench.faults.store import Store
    store = Store(a.cache, a.data, a.weights)
    while (job := conn.recv()) is not None:
        try: line = asked(*job, store)
        except Exception as e: line = dict(error=f'{type(e).__name__}: {str(e)[:200]}', where=traceback.format_exc(limit=-2)[-300:], built=False)
        conn.send(line)

class Worker:
    def __init__(self, ctx, a):
        self.conn,child = ctx.Pipe()
        self.proc = ctx.Process(target=work, args=(child, a), daemon=False)
        self.proc.start(); child.close()
        self.job = None
    def give(self, job): self.job,self.since = job,time.monotonic(); self.conn.send(job)
    def end(self):
        self.proc.kill(); self.proc.join(); self.conn.close()

def pooled(jobs, a):
    "(job, line) as they come; a worker that dies or takes too long is replaced"
    ctx,jobs = multiprocessing.get_context('fork' if sys.platform=='linux' else 'spawn'),collections.deque(jobs)
    pool = [Worker(ctx, a) for _ in range(min(a.workers, len(jobs)))]
    for w in pool: w.give(jobs.popleft())
    while any(w.job for w in pool):
        wait([w.conn for w in pool if w.job], timeout=1)
        for i,w in enumerate(pool):
            if not w.job: continue
            line = None
            if w.conn.poll():
                try: line = w.conn.recv()
                except EOFError: w.proc.join(); line,dead = dict(error=f'worker ended ({w.proc.exitcode})'),True
                else: dead = False
            elif time.monotonic()-w.since>a.timeout: line,dead = dict(error=f'not done in {a.timeout} s', seconds=a.timeout),True
            if line is None: continue
            yield w.job,line
            w.job = None
            if dead: w.end(); pool[i] = w = Worker(ctx, a)
            if jobs: w.give(jobs.popleft())
    for w in pool:
        try: w.conn.send(None)
        except OSError: pass
        w.proc.join(5); w.end()

def prepare(a):
    "All is imported once, so that workers start at once; data and weights are made in a process of their own"
    os.environ.update(dict.fromkeys(('OMP_NUM_THREADS','OPENBLAS_NUM_THREADS','MKL_NUM_THREADS'), str(a.threads)) | dict(CV_RECIPE_OFFLINE='1', CUDA_VISIBLE_DEVICES='', HF_HUB_OFFLINE='1'))
    sys.path.insert(0, str(HERE.parents[1]))
    if a.rivals: sys.path.append(str(a.rivals))
    import bench.faults.twins, bench.faults.faults, bench.faults.tools, cv_recipe.all
    from bench.faults.store import Store
    store = Store(a.cache, a.data, a.weights)
    p = multiprocessing.get_context('fork' if sys.platform=='linux' else 'spawn').Process(target=store.fill)
    p.start(); p.join()
    if p.exitcode: sys.exit('the data could not be made')

def run(a):
    prepare(a)
    base,lines = provenance(a.threads),read([a.out])
    todo = cases(a.what, a.seed, a.n)
    if a.only: todo = [c for c in todo if any(o in c['id'].split('/') for o in a.only.split(','))]
    todo = part(todo, *map(int, a.part.split('/')))[:a.limit]
    key = lambda o, tool, mode: (o['what'], o['id'], o['seed'], tool, mode)
    there = {key(o, o['tool'], o['mode']) for o in lines if o.get('cannot')!='absent' and (a.any_commit or (o['commit'],o['code'])==(base['commit'],base['code']))}
    jobs = [(c, t, a.mode) for c in todo for t in a.tools.split(',') if key(c, t, a.mode) not in there]
    began,new = time.monotonic(),[]
    with open(a.out, 'a') as f:
        for (c,tool,mode),line in pooled(jobs, a) if jobs else ():
            line = base | c | dict(tool=tool, mode=mode, folder=bool(a.data), file_weights=bool(a.weights)) | line
            f.write(json.dumps(line, default=str)+'\n'); f.flush()
            new.append(line)
            if a.say: print(c['id'], tool, line.get('error') or line.get('cannot') or [o[1] or o[0] for o in line['fails']][:3], f"{line.get('seconds', 0)} s", flush=True)
    print(f'{len(new)} of {len(todo)*len(a.tools.split(","))} done in {time.monotonic()-began:.0f} s; {sum("error" in o for o in new)} errors', file=sys.stderr)
    ids = {c['id'] for c in todo}
    return [o for o in read([a.out]) if o['id'] in ids and o['seed']==a.seed and o['mode']==a.mode]

# --- Results

def read(files):
    "The last line of each case, tool, mode and seed"
    known = {}
    for f in files:
        for l in Path(f).read_text().splitlines() if Path(f).exists() else ():
            o = json.loads(l)
            known[(o['what'], o['id'], o['seed'], o['tool'], o['mode'], o['commit'], o['code'])] = o
    return list(known.values())

def newest(lines):
    known = {}
    for o in lines: known[(o['what'], o['id'], o['seed'], o['tool'], o['mode'])] = o
    return list(known.values())

def exact(k, n, level=.95):
    "Clopper and Pearson's interval"
    from scipy.stats import beta
    a = (1-level)/2
    return (beta.ppf(a, k, n-k+1) if k else 0.),(beta.ppf(1-a, k+1, n-k) if k<n else 1.)

def share(k, n):
    if not n: return '-'
    lo,hi = exact(k, n)
    return f'{k}/{n} = {k/n:.3f} ({lo:.3f} to {hi:.3f})'

caught = lambda o: bool(o.get('fails'))
named = lambda o: caught(o) and o['fails'][0][1]==o['slug']
among = lambda o: caught(o) and any(f[1]==o['slug'] for f in o['fails'])
ran = lambda o: 'cannot' not in o and 'error' not in o

def figures(lines):
    "Counts of a tool's lines in one mode"
    f,t = [o for o in lines if o['what']=='faults'],[o for o in lines if o['what']=='twins']
    s,cpu = (sorted(o[k] for o in lines if k in o and 'cannot' not in o) for k in ('seconds','cpu'))
    return dict(faults=len(f), caught=sum(map(caught, f)), named=sum(map(named, f)), among=sum(map(among, f)), ran_f=sum(map(ran, f)),
        twins=len(t), alarms=sum(map(caught, t)), ran_t=sum(map(ran, t)), warns=sum(len(o.get('warns', ())) for o in t), warned=sum(bool(o.get('warns')) for o in t),
        errors=sum('error' in o for o in lines), median=statistics.median(s) if s else 0, p95=s[int(.95*(len(s)-1))] if s else 0, cpu=statistics.median(cpu) if cpu else 0)

def tables(lines):
    "Markdown of all that was measured"
    out,lines = [],newest(lines)
    row = lambda *o: out.append('| '+' | '.join(map(str, o))+' |')
    def head(*o): row(*o); row(*('---' for _ in o))
    for mode in sorted({o['mode'] for o in lines}):
        L = [o for o in lines if o['mode']==mode]
        tools = [t for t in ('verify','torchtest2','checklist','audit','stub') if any(o['tool']==t for o in L)]
        of = {t: [o for o in L if o['tool']==t] for t in tools}
        out += [f'## {mode}: seeds {", ".join(str(s) for s in sorted({o["seed"] for o in L}))}, commit {", ".join(sorted({o["commit"] for o in L}))}', '']
        head('tool', 'recall', 'first finding is right', 'right one among its fails', 'alarms on clean twins', 'of those it can run', 'warns a twin', 'cannot run', 'errors', 'seconds: median, p95; of CPU')
        for t in tools:
            g = figures(of[t])
            row(t, share(g['caught'], g['faults']), share(g['named'], g['faults']) if t=='verify' else '-', share(g['among'], g['faults']) if t=='verify' else '-', share(g['alarms'], g['twins']), share(g['alarms'], g['ran_t']), f"{g['warns']/g['ran_t']:.2f}" if g['ran_t'] else '-', g['faults']+g['twins']-g['ran_f']-g['ran_t']-g['errors'], g['errors'], f"{g['median']:.1f}, {g['p95']:.1f}; {g['cpu']:.1f}")
        out.append('')
        F = [o for o in L if o['what']=='faults']
        if F:
            head('fault', 'pipelines', *(o for t in tools for o in ([t, 'first', 'among', 'else named'] if t=='verify' else [t])))
            for s in dict.fromkeys(o['slug'] for o in F):
                cells = []
                for t in tools:
                    o = [o for o in of[t] if o['what']=='faults' and o['slug']==s]
                    cells.append(f'{sum(map(caught, o))}/{len(o)}')
                    if t=='verify': cells += [sum(map(named, o)), sum(map(among, o)), ' '.join(f'{k}:{n}' for k,n in collections.Counter(x['fails'][0][1] or x['fails'][0][0] for x in o if caught(x) and not named(x)).most_common(4))]
                row(s, len({o['pipe'] for o in F if o['slug']==s}), *cells)
            out.append('')
        for t in tools:
            T = [o for o in of[t] if o['what']=='twins' and ran(o)]
            if not T: continue
            by = {v: collections.Counter(k for o in T for k in {x[0] for x in o.get(v, ())}) for v in ('fails','warns')}
            out += [f'### {t} on clean twins', '']
            head('gate', 'fails', 'warns')
            for k in sorted({*by['fails'], *by['warns']}, key=lambda k: (-by['fails'][k], -by['warns'][k])): row(k, share(by['fails'][k], len(T)), share(by['warns'][k], len(T)))
            row('any', share(sum(map(caught, T)), len(T)), share(sum(bool(o.get('warns')) for o in T), len(T)))
            out.append('')
        wrong = [o for o in L if 'error' in o]
        if wrong: out += ['### Errors', '', *(f"- {t} {k}: {n}" for (t,k),n in collections.Counter((o['tool'], o['error'][:160]) for o in wrong).most_common(20)), '']
        missed = [o for o in of.get('verify', ()) if o['what']=='faults' and not caught(o) and ran(o)]
        if missed: out += ['### Missed by verify', '', *(f"- {o['id']} (seed {o['seed']}, {o['data']}, {o['arch']}) {json.dumps(o['notes'])}" for o in missed), '']
        alarms = [o for o in of.get('verify', ()) if o['what']=='twins' and caught(o)]
        if alarms: out += ['### Alarms of verify', '', *(f"- {o['id']} (seed {o['seed']}, {o['pipe']}, {o['data']}, {o['arch']}; {', '.join(map(str, o['notes']))}): {o['fails']}" for o in alarms), '']
        odd = collections.Counter(tuple(x) for o in of.get('verify', ()) for x in o.get('skips', ()))
        if odd: out += ['### Skipped by verify', '', *(f'- {k} ({why}): {n}' for (k,why),n in odd.most_common(25)), '']
    return '\n'.join(out)

def table(a): print(tables([o for o in read(a.files) if (not a.mode or o['mode']==a.mode) and (a.seed is None or o['seed']==a.seed)]))

def tenth(a):
    "A fixed tenth of the faults and some twins, with what they must show"
    a.mode,a.seed,a.limit,a.data,a.weights,a.only = 'quick',0,None,None,None,''
    lines = []
    for a.what,a.n,a.part in (('faults',0,'1/10'), ('twins',a.twins,'1/1')): lines += [o for o in run(a) if o['tool'] in a.tools.split(',')]
    lines = newest(lines)
    g = figures([o for o in lines if o['tool']==a.tools.split(',')[0]])
    print(tables(lines))
    wrong = [w for w,bad in (('recall', g['caught']<TENTH['recall']*g['faults']), ('the right name', g['named']<TENTH['named']*g['faults']), ('alarms', g['alarms']>TENTH['alarms']*g['twins']), ('warns', g['warns']>TENTH['warns']*g['twins']), ('errors', g['errors']>0)) if bad]
    if wrong: sys.exit('not as it must be: '+', '.join(wrong))

def listed(a):
    sys.path.insert(0, str(HERE.parents[1]))
    from bench.faults.faults import CASES, FAULTS, SLUGS
    for s in SLUGS: print(s, *(f'{f.name}({",".join(f.pipes)})' for f in FAULTS if f.slug==s))
    print(f'{len(SLUGS)} slugs, {len(FAULTS)} faults, {len(CASES)} cases a seed')

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = p.add_subparsers(required=True)
    def common(q):
        q.add_argument('--tools', default='verify', help='verify, torchtest2, checklist, audit, stub; by commas')
        q.add_argument('--cache', type=Path, default=Path(tempfile.gettempdir())/'cv_recipe_faults', help='where small images and weights are kept')
        q.add_argument('--workers', type=int, default=2)
        q.add_argument('--threads', type=int, default=1, help='of each worker')
        q.add_argument('--timeout', type=float, default=120, help='seconds for a case and tool')
        q.add_argument('--rivals', type=Path, help='folder with the packages of other tools')
        q.add_argument('--any-commit', action='store_true')
        q.add_argument('--say', action='store_true', help='a word on each case as it is done')
    q = sub.add_parser('run'); common(q); q.set_defaults(do=run)
    q.add_argument('--what', choices=('faults','twins'), required=True)
    q.add_argument('--mode', choices=('quick','full'), default='quick')
    q.add_argument('--seed', type=int, default=0)
    q.add_argument('--part', default='1/1')
    q.add_argument('--n', type=int, default=300, help='twins')
    q.add_argument('--only', default='', help='slugs, faults, pipelines or twins, by commas')
    q.add_argument('--limit', type=int)
    q.add_argument('--data', type=Path)
    q.add_argument('--weights', type=Path)
    q.add_argument('--out', type=Path, default=Path('faults.jsonl'))
    q = sub.add_parser('table'); q.set_defaults(do=table)
    q.add_argument('files', nargs='+'); q.add_argument('--mode'); q.add_argument('--seed', type=int)
    q = sub.add_parser('tenth'); common(q); q.set_defaults(do=tenth)
    q.add_argument('--twins', type=int, default=24)
    q.add_argument('--out', type=Path, default=Path(tempfile.gettempdir())/'cv_recipe_tenth.jsonl')
    q = sub.add_parser('list'); q.set_defaults(do=listed)
    a = p.parse_args()
    a.do(a)

if __name__=='__main__': main()
