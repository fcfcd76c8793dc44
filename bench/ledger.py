"""Does the ledger keep what it was given, when its writers are killed?

    python bench/ledger.py [--processes 4] [--runs 500] [--kills 10] [--out ledger.jsonl]

So many processes write so many runs each (start, three logs, an array, end) into one ledger. At random moments one of them is killed
by SIGKILL and started again; it asks the ledger which runs are done and goes on. A writer reports a run only after its end was written.
At the end: SQLite's integrity check, every reported run is there and whole, and every key is done exactly once.
One JSON line is printed, and appended to `--out`.
"""
import argparse, json, os, platform, random, subprocess, sys, tempfile, threading, time
from importlib.metadata import version
from pathlib import Path

import numpy as np

from cv_recipe.runs import Ledger, run_key

def write(folder, who, runs):
    "The writer: all runs of process `who` that are not done; a finished one is reported on stdout"
    ledger = Ledger(folder)
    for i in range(runs):
        config = dict(who=who, i=i)
        if ledger.find(run_key(config)): continue
        with ledger.run(config) as run:
            for step in range(3): run.log(dict(loss=i/(step+1)))
            run.save('preds', np.full(100, i))
        print(run.id, flush=True)

class Writer:
    "A writer's process, and what it has reported over all its lives"
    def __init__(self, folder, who, runs):
        self.cmd,self.ids = [sys.executable, __file__, '--write', str(folder), str(who), str(runs)],[]
        self.start()
    def start(self):
        self.p = subprocess.Popen(self.cmd, stdout=subprocess.PIPE, text=True)
        self.t = threading.Thread(target=self.read, args=(self.p.stdout,)); self.t.start()
    def read(self, out):
        for line in out:
            if line.endswith('\n'): self.ids.append(line.strip())
    def kill(self): self.p.kill(); self.p.wait(); self.t.join(); self.start()

def check(folder, writers, runs):
    "What came of it; every value that is not a count of work must be 0 or 'ok'"
    ledger = Ledger(folder)
    table = ledger.runs().set_index('id')
    ids = [i for w in writers for i in w.ids]
    bad = lambda i: i not in table.index or table.status[i]!='done' or len(ledger[i].curve)!=3 or not (ledger[i].array('preds')==table.config[i]['i']).all()
    done = table[table.status=='done'].key
    return dict(integrity=ledger._con.execute('pragma integrity_check').fetchone()[0], reported=len(ids), lost=sum(map(bad, ids)), missing=len(writers)*runs-done.nunique(),
                repeated=len(done)-done.nunique(), killed_runs=int((table.status=='killed').sum()), other=int((~table.status.isin(['done','killed'])).sum()))

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--processes', type=int, default=4)
    p.add_argument('--runs', type=int, default=500)
    p.add_argument('--kills', type=int, default=10)
    p.add_argument('--seed', type=int, default=0, help='of the moments and the victims')
    p.add_argument('--out', type=Path, default=Path('ledger.jsonl'), help='a JSON line is appended here')
    p.add_argument('--write', nargs=3, help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.write: return write(a.write[0], int(a.write[1]), int(a.write[2]))
    rng,kills,start = random.Random(a.seed),0,time.perf_counter()
    total = a.processes*a.runs
    at = sorted(rng.sample(range(1, int(total*.9)), a.kills)) # kill once so many runs are reported in all
    with tempfile.TemporaryDirectory() as d:
        writers = [Writer(d, w, a.runs) for w in range(a.processes)]
        while any(w.p.poll() is None for w in writers):
            alive = [w for w in writers if w.p.poll() is None]
            if kills<a.kills and sum(len(w.ids) for w in writers)>=at[kills] and alive:
                time.sleep(rng.random()*.05)
                rng.choice(alive).kill(); kills += 1
            time.sleep(.005)
        for w in writers: w.t.join()
        seconds = time.perf_counter()-start
        res = check(d, writers, a.runs)
    git = subprocess.run(['git','rev-parse','--short','HEAD'], capture_output=True, text=True, cwd=Path(__file__).parent).stdout.strip()
    line = dict(commit=git, python=platform.python_version(), cores=os.cpu_count(), cv_recipe=version('cv_recipe'), processes=a.processes, runs=a.runs, kills=kills, seconds=round(seconds, 1)) | res
    with open(a.out, 'a') as f: f.write(json.dumps(line)+'\n')
    print(json.dumps(line))
    sys.exit(any([res['integrity']!='ok', res['lost'], res['missing'], res['repeated'], res['other'], kills<a.kills]))

if __name__=='__main__': main()
