"""What is asked: `verify` of this library, and three others at their fairest, each on a Learner that was just made.

Each tool takes a Learner, what is known of its case and the mode, and gives a dict with `fails` as (name, fault), `warns`, `skips` as (name, why), or `cannot` with the reason.
"""
import contextlib, copy, functools, io, warnings
from itertools import islice

import torch

def plain(t): return t.as_subclass(torch.Tensor).detach() if isinstance(t, torch.Tensor) else t

def verify(learn, about, mode):
    try: from cv_recipe.all import verify
    except ImportError: return dict(cannot='absent')
    found = verify(learn, lr=about.get('lr'), quick=mode=='quick', budget=60 if mode=='quick' else 300)   # what is judged here is the verdict; seconds are reported beside it
    of = lambda v: [f for f in found if f.verdict==v]
    return dict(fails=[(f.name, f.fault, short(f.value)) for f in of('fail')], warns=[(f.name, f.fault) for f in of('warn')], skips=[(f.name, short(f.implication or f.value)) for f in of('skip')], passes=len(of('pass')))

def short(v): return str(v)[:120]

def stub(learn, about, mode):
    "Two batches of training and validation: does the pipeline run?"
    from fastai.callback.schedule import Learner
    from fastai.callback.training import ShortEpochCallback
    with learn.no_bar(), learn.no_logging(): learn.fit(1, lr=about.get('lr'), cbs=ShortEpochCallback(pct=.05))
    losses = [float(o) for o in learn.recorder.losses]
    return dict(fails=[] if losses and all(o==o for o in losses) else [('loss is a number','',short(losses[:3]))], warns=[], skips=[])

# --- Others

def batch(learn, least):
    "At least so many images with targets, and not twice as many"
    xs,ys,n = [],[],0
    for b in learn.dls.train:
        xs.append(plain(b[0])); ys.append(plain(b[1])); n += len(b[0])
        if n>=least: break
    return torch.cat(xs)[:2*least],torch.cat(ys)[:2*least]

def loss_of(learn):
    "The user's loss, a number"
    def loss(p, y):
        l = learn.loss_func(p, y)
        return plain_grad(l.mean() if l.ndim else l)
    return loss
def plain_grad(t): return t.as_subclass(torch.Tensor)

def optimizer(learn, about):
    "PyTorch's optimizer on the parameters that the user's has"
    if learn.opt is None: learn.create_opt()
    o = learn.opt
    if isinstance(getattr(o, 'opt', None), torch.optim.Optimizer):
        for g in o.opt.param_groups: g['lr'] = about.get('lr') or g['lr']
        return o.opt
    lr = about.get('lr') or [h['lr'] for h in o.hypers]
    wd = learn.wd if learn.wd is not None else .01
    groups = [dict(params=[p for p in g if p.requires_grad], lr=(lr[i] if isinstance(lr, list) else lr), weight_decay=wd) for i,g in enumerate(o.param_lists)]
    return torch.optim.AdamW([g for g in groups if g['params']])

@contextlib.contextmanager
def quiet():
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter('ignore')
        yield

def torchtest2(learn, about, mode):
    try: from torchtest2 import check_model
    except ImportError: return dict(cannot='absent')
    opt = optimizer(learn, about)
    x,y = (o[:16] for o in batch(learn, 16))
    shape = (None, about['c']) if about['kind'] in ('single','multi') else None
    frozen = [n for n,p in learn.model.named_parameters() if not p.requires_grad]
    with quiet(): r = check_model(learn.model, x, y, loss_fn=loss_of(learn), optimizer=opt, output_shape=shape, frozen=frozen, overfit_steps=60 if mode=='quick' else 200)
    return dict(fails=[(o.name, '', o.message[:120]) for o in r.failures], warns=[(o.name, '') for o in r.warnings], skips=[(o.name, o.message[:80]) for o in r.skipped])

def checklist(learn, about, mode):
    "neural-net-checklist: classification by cross-entropy is what it knows; fewer steps than its default of 65,536, at a higher rate and with an easier end"
    try: import neural_net_checklist.torch_diagnostics as t
    except ImportError: return dict(cannot='absent')
    if about['kind']!='single': return dict(cannot='classification alone')
    c,new = about['c'],lambda: copy.deepcopy(learn.model)
    xy,loss,steps = batch(learn, max(32, min(c, 128))),loss_of(learn),100 if mode=='quick' else 400
    few = lambda n: tuple(o[:n] for o in xy)
    def overfit():
        m = new()
        faster = functools.partial(t.train_batch, optimizer=torch.optim.Adam((p for p in m.parameters() if p.requires_grad), lr=2e-3))
        t.assert_overfit_to_batch(m, few(8), train_batch_fn=faster, loss_fn=loss, threshold=.2, max_steps=2*steps)
    checks = dict(
        init=lambda: t.assert_balanced_classification_cross_entropy_loss_at_init(new(), xy, num_classes=c, loss_fn=loss),
        calibrated=lambda: t.assert_balanced_classification_cross_entropy_init_calibrated(new(), xy, num_classes=c),
        forward_independence=lambda: t.assert_forward_batch_independence(new, xy),
        gradients=lambda: t.assert_non_zero_gradients(new(), few(16)),
        backward_independence=lambda: t.assert_backward_batch_independence(new, few(4)),
        blank_is_worse=lambda: t.assert_input_independent_baseline_worse(new, few(16), loss_fn=loss, max_steps=steps), overfit=overfit)
    fails,skips = [],[]
    for k,f in checks.items():
        with quiet():
            try: f()
            except AssertionError as e: fails.append((k, '', str(e)[:120]))
            except Exception as e: skips.append((k, repr(e)[:120]))
    return dict(fails=fails, warns=[], skips=skips) if len(skips)<len(checks) else dict(cannot=skips[0][1])

def audit(learn, about, mode):
    "torch-audit around a few steps of training; its ERROR and FATAL count as fails"
    try: from torch_audit.runtime import Auditor
    except ImportError: return dict(cannot='absent')
    opt,loss = optimizer(learn, about),loss_of(learn)
    learn.model.train()
    with quiet():
        with Auditor(learn.model, optimizer=opt, every_n_steps=1) as a:
            a.audit_static(); a.audit_init()
            for b in islice(learn.dls.train, 3 if mode=='quick' else 10):
                opt.zero_grad()
                out = a.forward(plain(b[0]))
                a.backward(loss(out, plain(b[1])))
                a.optimizer_step()
        found = a.finish().findings
    of = lambda *s: list(dict.fromkeys((f.rule_id, '') for f in found if f.severity.value in s))
    return dict(fails=[(*o, '') for o in of('ERROR','FATAL')], warns=of('WARN'), skips=[])

TOOLS = dict(verify=verify, torchtest2=torchtest2, checklist=checklist, audit=audit, stub=stub)
