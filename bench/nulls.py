"""How often does a whole loop claim a gain where no move does anything?

    python bench/nulls.py run [--loops 20] [--moves 8] [--part k/n] [--out nulls.jsonl]
    python bench/nulls.py table nulls.jsonl...

Each loop has 600 of the digits and a small network, trained for 100 steps, and eight moves that change nothing but the random numbers of the training; each is believed to bring a point, give or take two. What is chosen is trained again from three fresh seeds, beside the start, as the stage `loop` does it. A choice is no claim, and of such moves half look good; a claim is made where fresh seeds bear it out. One JSON line a loop. Resumable.
"""
import argparse, json, os, tempfile, time, warnings
from pathlib import Path
os.environ.update({k: '1' for k in ('OMP_NUM_THREADS','MKL_NUM_THREADS')} | dict(CV_RECIPE_OFFLINE='1', MPLBACKEND='agg'))
warnings.simplefilter('ignore')

import pandas as pd
from cv_recipe.climb import Move, confirmed
from cv_recipe.core import derive_seed, plain
from cv_recipe.data import Source
from cv_recipe.loop import Ground, Mend, run_loop
from cv_recipe.pipe import Config
from cv_recipe.runs import Ledger, versions

class Nothing(Ground):
    "A ground on which corrections correct nothing, and only draw other random numbers"
    def propose(self, node, left=float('inf')): return [Move(n, (node.config, (*node.mends, n)), m.prior, m.sd, node.cost, m.why) for n,m in self.mends.items() if n not in node.mends]
    def judge(self, config, mends=(), seed=0, move=None, node=None, reuse=None, stage='loop'):
        return super().judge(config, (), derive_seed(seed, 'nothing', *mends)%2**30 if mends else seed, move, node, reuse, stage)

def loop(i, moves):
    src = Source.digits().subset(600, seed=i)
    c = Config(arch='test_resnet', weights='random', channels=1, size=32, bs=32, steps=100, schedule='one_cycle', lr=5e-3, aug='fastai', aug_strength=.5)
    with tempfile.TemporaryDirectory() as d:
        g = Nothing(src, Ledger(Path(d)), seed=i, by='steps', mends={f'nothing_{k}': Mend({}, .01, .02, 'to see what chance does') for k in range(moves)}, kwargs=dict(threads=1, device='cpu', folder=Path(d)/'cache'))
        start = g.node(c, g.judge(c, (), i), train=0.)
        climb = run_loop(g, start, (moves+.5)*start.cost)
        check = confirmed(climb, lambda node, seed: g.judge(node.config, node.mends, seed, stage='confirm'), g.task)
        return dict(loop=i, moves=len(climb.steps), kept=sum(s.kept for s in climb.steps), chosen=climb.at>=0, claimed=None if check is None else check.verdict, gain=None if check is None else round(check.gain.value, 4), seen=round(sum(s.observed for s in climb.steps if s.kept), 4))

def run(a):
    have = {json.loads(l)['loop'] for l in open(a.out)} if a.out.exists() else set()
    k,n = map(int, a.part.split('/'))
    for i in range(a.loops):
        if i in have or i%n!=k-1: continue
        began = time.process_time()
        row = loop(i, a.moves) | dict(seconds=round(time.process_time()-began, 1), versions=versions())
        with open(a.out, 'a') as f: f.write(json.dumps(plain(row))+'\n')
        print({k: v for k,v in row.items() if k!='versions'}, flush=True)

def table(a):
    df = pd.DataFrame([json.loads(l) for f in a.files for l in open(f)]).drop_duplicates('loop')
    print(f"{len(df)} loops, {int(df.moves.sum())} moves that do nothing, {int(df.kept.sum())} kept, {int(df.chosen.sum())} loops left their start; claimed: {df.claimed.fillna('nothing was chosen').value_counts().to_dict()}")
    print(f"the moves that were kept had looked {100*df.seen[df.chosen].mean():+.2f} points better, loop by loop; from fresh seeds it was {100*df.gain.dropna().mean():+.2f}")

def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = ap.add_subparsers(dest='do', required=True)
    r = sub.add_parser('run'); r.add_argument('--loops', type=int, default=20); r.add_argument('--moves', type=int, default=8); r.add_argument('--part', default='1/1'); r.add_argument('--out', type=Path, default=Path('nulls.jsonl'))
    t = sub.add_parser('table'); t.add_argument('files', nargs='+', type=Path)
    a = ap.parse_args()
    dict(run=run, table=table)[a.do](a)

if __name__=='__main__': main()
