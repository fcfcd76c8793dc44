"""The bars of the stage `baselines` beside scikit-learn's own figures, on real sets.

    python bench/baselines.py --data DIR [--weights FILE] [--set digits trashnet elpv playing_cards] [--out baselines.jsonl]

DIR holds `trashnet/CLASS/*.jpg`, `elpv_solar/labels.csv` (path, prob) and `playing_cards/{train,test}` with `train_labels.csv` and `test_labels.csv` (filename, class: a row a card); digits come with scikit-learn. Cards are trained on `train` and scored on `test`, the others on the library's validation rows.

The stage runs as it does in a recipe. Beside each bar stands what scikit-learn makes of the same images: DummyClassifier and DummyRegressor; LogisticRegression or Ridge behind StandardScaler, on histograms that numpy counts and on the network's features; KNeighbors; and its own metrics. `free` is scikit-learn's figure where it also chooses the strength of the penalty by its own folds. `same` says that the two are equal within half an image, or a thousandth where the score is no count of images; a draw at random, within three deviations of 200 draws of scikit-learn's. One line a set, with commit and versions.
"""
import argparse, json, os, platform, subprocess, tempfile, time
os.environ.update({k: os.environ.get(k, '1') for k in ('OMP_NUM_THREADS','OPENBLAS_NUM_THREADS','MKL_NUM_THREADS')} | dict(CV_RECIPE_OFFLINE='1'))
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, average_precision_score, mean_absolute_error
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, normalize

import cv_recipe
from cv_recipe.all import *
from cv_recipe.baselines import baselines_stage
from cv_recipe.pipe import probe_groups

STRENGTHS = (1e-4,1e-3,1e-2,1e-1)

def cards(root):
    rows = []
    for split,side in (('train','train'), ('test','valid')):
        for name,o in pd.read_csv(root/f'{split}_labels.csv').groupby('filename'): rows.append(dict(path=f'{split}/{name}', label=sorted(set(o['class'])), split=side))
    return Source.from_df(pd.DataFrame(rows), folder=root)

def source(name, data):
    if name=='digits': return Source.digits()
    if name=='trashnet': return Source.from_folder(data/'trashnet')
    if name=='elpv': return Source.from_csv(data/'elpv_solar'/'labels.csv', label_col='prob', kind='regression')
    return cards(data/'playing_cards')

# --- scikit-learn's side: nothing below calls the library

def metric(kind, preds, y):
    if kind=='single': return accuracy_score(y, preds.argmax(1))
    if kind=='regression': return mean_absolute_error(y, preds)
    return float(np.mean([average_precision_score(y[:,j], preds[:,j]) for j in range(y.shape[1]) if y[:,j].any()]))

def probabilities(model, x):
    p = model.predict_proba(x) if hasattr(model, 'predict_proba') else model.predict(x)
    return np.stack([o[:,1] if o.shape[1]>1 else np.zeros(len(o)) for o in p], 1) if isinstance(p, list) else p

def dummies(kind, y, n):
    x,v = np.zeros((len(y),1)),np.zeros((n,1))
    if kind=='regression': return {k: DummyRegressor(strategy=k).fit(x, y).predict(v) for k in ('median','mean')}
    return dict(prior=probabilities(DummyClassifier(strategy='prior').fit(x, y), v))

def draws(kind, y, truth, times=200):
    if kind=='regression': got = [metric(kind, np.random.default_rng(i).choice(y, len(truth)), truth) for i in range(times)]
    else:
        def one(i): return DummyClassifier(strategy='stratified', random_state=i).fit(np.zeros((len(y),1)), y).predict(np.zeros((len(truth),1)))
        got = [metric(kind, np.eye(y.max()+1)[one(i)] if kind=='single' else one(i), truth) for i in range(times)]
    return float(np.mean(got)),float(np.std(got))

def linear(kind, strength, n_out):
    "Our strength is scikit-learn's C of a loss that is a mean over labels; of squares, half the inverse of Ridge's alpha"
    if kind=='regression': m = Ridge(alpha=.5/strength)
    else: m = LogisticRegression(C=strength if kind=='single' else strength/n_out, tol=1e-8, max_iter=20_000)
    return make_pipeline(StandardScaler(), OneVsRestClassifier(m) if kind=='multi' else m)

def free(kind, x, y, v, groups, n_out):
    "With the strength that scikit-learn's own search takes"
    m = linear(kind, 1., n_out)
    name,scale = m.steps[-1][0],(lambda s: .5/s) if kind=='regression' else (lambda s: s) if kind=='single' else (lambda s: s/n_out)
    field = dict(single='C', multi='estimator__C', regression='alpha')[kind]
    score = dict(single='neg_log_loss', multi=lambda e,x,y: -np.logaddexp(0, -(2*y-1)*e.decision_function(x)).mean(), regression='neg_mean_squared_error')[kind]
    m.set_params(**{f'{name}__{k}': o for k,o in dict(tol=1e-4).items() if kind=='single'})
    g = GridSearchCV(m, {f'{name}__{field}': [scale(s) for s in STRENGTHS]}, scoring=score, cv=GroupKFold(3)).fit(x, y, groups=groups)
    return probabilities(g.best_estimator_, v)

def near(kind, x, y, v):
    m = KNeighborsRegressor(5, algorithm='brute') if kind=='regression' else KNeighborsClassifier(5, algorithm='brute')
    return probabilities(m.fit(x, y), v)

def histograms(images):
    def one(a): return np.concatenate([np.stack([np.histogram(a[...,c], 16, (0,256))[0]/a[...,c].size for c in range(a.shape[-1])], 1).ravel(), a.mean((0,1))/255, a.std((0,1))/255])
    return np.stack([one(a) for a in images])

def squeezed(images, k=16):
    n,s,_,c = images.shape
    return images.astype(float).reshape(n, k, s//k, k, s//k, c).mean((2,4)).reshape(n, -1)

# --- Both

def measured(name, data, weights, folder):
    src,began = source(name, data),time.monotonic()
    project = Project(folder, src, Ledger(folder), asked=dict(weights=weights) if weights else dict(weights='random'), cache=folder/'cache')
    res = baselines_stage(project)
    ours,took = {b['name']: float(b['value']) for b in [*res.data['bars'], *res.data['blind']]},time.monotonic()-began
    by = {b['kind']: b['name'] for b in res.data['bars']}
    task,kind = project.task,src.kind
    c,w = resolve(Config(weights=weights or 'random'), src)
    cache = cache_images(src, c.size, c.resize, c.channels, folder/'cache')
    a,b = (np.flatnonzero((src.df.split==s).to_numpy() & (cache.rows>=0)) for s in ('train','valid'))
    y,t = (task.encode(list(src.df.label.iloc[o])) for o in (a, b))
    if kind=='multi': y,t = y.astype(int),t.astype(int)
    feats,groups,k = features(src.where(src.df.split.isin(['train','valid']).to_numpy()), w, c.size, c.resize, c.channels, folder=folder/'cache'),probe_groups(src, a),task.n_out
    at = {i: r for r,i in enumerate(src.df.id[src.df.split.isin(['train','valid'])])}
    fa,fb = (feats.take(np.array([at[i] for i in src.df.id.iloc[o]])).astype(float) for o in (a, b))
    ia,ib = cache.take(a),cache.take(b)
    theirs = {n: dict(sklearn=metric(kind, p, t)) for n,p in zip([n for n in ours if n.startswith('always')], (lambda d: [d['median'],d['mean']] if kind=='regression' and 'median' in next(iter(ours)) else list(d.values())[::-1] if kind=='regression' else [d['prior']])(dummies(kind, y, len(t))))}
    mean,sd = draws(kind, y, t)
    theirs['drawn as often as in training'] = dict(sklearn=mean, sd=sd)
    for bar,x,v in ((by['colour'], histograms(ia), histograms(ib)), (by['frozen'], fa, fb)):
        strength = fit_probe(x, task.encode(list(src.df.label.iloc[a])), task, groups=groups, seed=0).strength
        theirs[bar] = dict(sklearn=metric(kind, probabilities(linear(kind, strength, k).fit(x, y), v), t), strength=strength, free=metric(kind, free(kind, x, y, v, groups, k), t))
    theirs[by['tiny']] = dict(sklearn=metric(kind, near(kind, squeezed(ia), y, squeezed(ib)), t))
    theirs[by['near']] = dict(sklearn=metric(kind, near(kind, normalize(fa), y, normalize(fb)), t))
    theirs['trained on zeros'] = dict(sklearn=theirs[[n for n in ours if n.startswith('always') and 'median' not in n][0]]['sklearn'])
    rng = np.random.default_rng(0)
    p = rng.permutation(len(fa))[:500]
    theirs['trained on images of other rows'] = dict(free=metric(kind, free(kind, fa[rng.permutation(p)], y[p], fb, groups[p], k), t))
    near_enough = .51/len(t) if kind=='single' else 1e-3
    for n,o in theirs.items():
        o |= dict(library=ours[n])
        if 'sklearn' in o: o['same'] = bool(abs(ours[n]-o['sklearn'])<=(3*o['sd'] if 'sd' in o else near_enough))
    theirs['trained on noise'] = dict(library=ours['trained on noise'])
    return dict(set=name, kind=kind, metric=task.metric.name, size=c.size, weights=w.what, train=len(a), valid=len(b), seconds=round(took, 1), verdicts={o.name: o.verdict for o in res.findings},
        all_same=all(o.get('same', True) for o in theirs.values()), bars={n: {k: round(v, 5) if isinstance(v, float) else v for k,v in o.items()} for n,o in theirs.items()})

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--data', type=Path, required=True, help='where the sets lie')
    p.add_argument('--weights', help='a safetensors file; without it, random ones')
    p.add_argument('--set', nargs='+', default=['digits','elpv','playing_cards','trashnet'], choices=('digits','elpv','playing_cards','trashnet'))
    p.add_argument('--out', type=Path, default=Path('baselines.jsonl'))
    a = p.parse_args()
    git = subprocess.run(['git','rev-parse','--short','HEAD'], capture_output=True, text=True, cwd=Path(cv_recipe.__file__).parent).stdout.strip()
    for name in a.set:
        with tempfile.TemporaryDirectory() as d: line = dict(commit=git, python=platform.python_version(), **{m: version(m) for m in ('numpy','torch','scikit-learn')}) | measured(name, a.data, a.weights, Path(d))
        with open(a.out, 'a') as f: f.write(json.dumps(line)+'\n')
        print(json.dumps({k: v for k,v in line.items() if k not in ('bars','verdicts')}), *(f'  {n:32} {o}' for n,o in line['bars'].items()), sep='\n', flush=True)

if __name__=='__main__': main()
