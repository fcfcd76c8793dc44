"""Kill -9 at random moments under --steps: nothing finished is lost or repeated, and the end is that of an undisturbed run, bit for bit.

    python bench/kill.py [--kills 10] [--rows 300] [--steps 300] [--seed 0] [--out kill.jsonl]

Runs `cv-recipe run` on digits to its end, then once more in another folder, where it is killed at random moments and started again. After each kill: the ledger passes SQLite's integrity check, every stage file can be read, and each run that was done before is still there with the same weights and arrays. At the end: the same runs, decisions, scores and predictions, and the same tensors. One JSON line.
"""
import argparse, hashlib, json, os, random, signal, sqlite3, subprocess, sys, tempfile, time
from pathlib import Path

ENV = os.environ | {k: '1' for k in ('OMP_NUM_THREADS','MKL_NUM_THREADS','CV_RECIPE_OFFLINE')} | dict(PYTHONWARNINGS='ignore')

def command(csv, out, steps): return [sys.executable, '-c', 'from cv_recipe.cli import main; raise SystemExit(main())', 'run', str(csv), '--out', str(out), '--steps', str(steps), '--arch', 'test_resnet', '--weights', 'random', '--size', '32', '--threads', '1', '--device', 'cpu']

def sha(p): return hashlib.sha256(p.read_bytes()).hexdigest()[:16]

def done(folder):
    "Run id to a hash of all that it left, for runs that are done; checks that all can be read"
    db = folder/'ledger.db'
    if not db.exists(): return {}
    con = sqlite3.connect(db)
    assert con.execute('pragma integrity_check').fetchone()==('ok',), 'the ledger is damaged'
    con.close()
    for p in (folder/'stages').glob('*.json'): json.loads(p.read_text())
    from cv_recipe.runs import Ledger
    led = Ledger(folder)
    try:
        df = led.runs()
        return {i: sorted((f.name, sha(f)) for f in led[i].folder.rglob('*') if f.suffix in ('.safetensors','.npz','.npy')) for i in df.id[df.status=='done']}
    finally: led.close()

def end(folder):
    "What came out: figures, decisions, tensors"
    s = json.loads((folder/'summary.json').read_text())
    loop = folder/'loop.json'
    return dict(summary={k: v for k,v in s.items() if k not in ('seconds','model')}, how=s['model']['how'], tensors=[p.name for p in (folder/'model').glob('*.safetensors')], loop=json.loads(loop.read_text())['steps'] if loop.exists() else None)

def same(a, b, ra, rb):
    "What differs between two ends; ids of runs may"
    def loop(e): return [{k: v for k,v in s.items() if k!='runs'} for s in e['loop'] or []]
    res = [f'{k}: {a["summary"].get(k)} and {b["summary"].get(k)}' for k in sorted({*a['summary'], *b['summary']}) if a['summary'].get(k)!=b['summary'].get(k)]
    res += [k for k in ('how','tensors') if a[k]!=b[k]]+(['decisions'] if loop(a)!=loop(b) else [])
    if sorted(map(str, ra.values()))!=sorted(map(str, rb.values())): res.append('runs')
    return res

def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--kills', type=int, default=10); ap.add_argument('--rows', type=int, default=300); ap.add_argument('--steps', type=int, default=300)
    ap.add_argument('--seed', type=int, default=0); ap.add_argument('--out', type=Path, default=Path('kill.jsonl'))
    a = ap.parse_args()
    from cv_recipe.data import Source
    from cv_recipe.runs import versions
    rng = random.Random(a.seed)
    with tempfile.TemporaryDirectory() as d:
        d = Path(d); csv = Source.digits().subset(a.rows).to_csv(d/'some.csv')
        began = time.monotonic()
        subprocess.run(command(csv, d/'whole', a.steps), env=ENV, check=True, capture_output=True)
        took,moments,seen,lost = time.monotonic()-began,[],{},[]
        while True:
            p = subprocess.Popen(command(csv, d/'killed', a.steps), env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            if len(moments)<a.kills:
                try: p.wait(rng.uniform(.1, .8)*took)
                except subprocess.TimeoutExpired:
                    p.send_signal(signal.SIGKILL); p.wait()
                    moments.append((json.loads((d/'killed'/'project.json').read_text()).get('now') or {}).get('stage', '-') if (d/'killed'/'project.json').exists() else '-')
                    now = done(d/'killed')
                    lost += [i for i,v in seen.items() if now.get(i)!=v]
                    seen = now
                    print(f'kill {len(moments)} in {moments[-1]}: {len(now)} runs done', flush=True)
                    continue
            p.wait()
            assert p.returncode==0, p.stderr.read().decode()[-800:]
            if len(moments)>=a.kills: break
            print('it came to its end before all kills were made: a new folder', flush=True)
            (d/'killed').rename(d/f'early{time.monotonic_ns()}'); seen = {}
        ra,rb = done(d/'whole'),done(d/'killed')
        row = dict(kills=len(moments), stages=moments, runs=len(ra), lost=lost, differs=same(end(d/'whole'), end(d/'killed'), ra, rb), seconds=round(took, 1), versions=versions())
        print(json.dumps(row)); a.out.open('a').write(json.dumps(row)+'\n')
        sys.exit(bool(lost or row['differs']))

if __name__=='__main__': main()
