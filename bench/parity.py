"""Do torch, ONNX and a fastai Learner say the same of real images?

    python bench/parity.py DATA --weights FILE [--n 200] [--arch NAME] [--size 96] [--steps 20]

Trains a little on the images of DATA (a folder a class), ships the model, and asks it in three ways about n images that it has not seen: `load(...).predict`, `load_onnx(...).predict`, `to_learner(...).get_preds`. One JSON line: the largest difference of a probability, and how many labels differ.
"""
import argparse, json, os, tempfile, warnings
os.environ.update({k: os.environ.get('OMP_NUM_THREADS', '1') for k in ('OMP_NUM_THREADS','MKL_NUM_THREADS')} | dict(CV_RECIPE_OFFLINE='1'))
warnings.simplefilter('ignore')
from pathlib import Path
import numpy as np

def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('data', type=Path); ap.add_argument('--weights', default='random'); ap.add_argument('--arch', default='auto')
    ap.add_argument('--n', type=int, default=200); ap.add_argument('--size', type=int, default=96); ap.add_argument('--steps', type=int, default=20)
    a = ap.parse_args()
    from cv_recipe.data import Source
    from cv_recipe.export import load, save_model
    from cv_recipe.pipe import Config, create_args, fit, run_model
    from cv_recipe.runs import versions
    from cv_recipe.task import task_for
    from cv_recipe.travel import load_onnx, to_onnx
    src = Source.from_folder(a.data)
    side = np.full(len(src), 'none', object)
    order = np.random.default_rng(0).permutation(len(src))
    side[order[:a.n]],side[order[a.n:3*a.n]] = 'valid','train'
    df = src.df.assign(path=[p.as_posix() for p in src.paths], split=side)
    src = Source.from_df(df[df.split!='none'][['path','label','split']], folder='/', kind='single', test=0.)
    with tempfile.TemporaryDirectory() as d:
        run = fit(src, Config(arch=a.arch, weights=a.weights, size=a.size, steps=a.steps), Path(d)/'ledger', 0, 1, 'cpu', board=False, folder=Path(d)/'cache')
        task,c = task_for(src),Config.from_dict(run.config | dict(weights='random'))
        net,w = run_model(run, task)
        model = load(save_model(Path(d)/'model', net, task, w, c.size, c.resize, c.channels, create_args(c, w)), 'cpu')
        files = list(src.valid.paths)
        one,two = model.predict(files),load_onnx(to_onnx(Path(d)/'model')).predict(files)
        learn = model.to_learner(src, folder=Path(d)/'cache')
        with learn.no_bar(): three = learn.get_preds(1)[0].numpy()
        cols = list(model.classes)
        x,y = one[cols].to_numpy(),two[cols].to_numpy()
        print(json.dumps(dict(data=a.data.name, arch=model.weights.arch, images=len(files), size=a.size, accuracy=round(float((one.label==src.valid.df.label.to_numpy()).mean()), 3), onnx=float(np.abs(x-y).max()), learner=float(np.abs(x-three).max()), labels_differ=int((one.label!=two.label).sum()), versions=versions())))

if __name__=='__main__': main()
