"""Modules:

- `cv_recipe.audit`: All that can be found out about a data set before anything is trained on it, in one page and four tables
- `cv_recipe.baselines`: What does no model score, what does colour alone, what does a frozen network?
- `cv_recipe.cache`: Decode every image once, keep it as uint8 on disk, and take a batch with one gather
- `cv_recipe.cli`: `cv-recipe run photos/` and what goes with it
- `cv_recipe.core`: What every other room stands on: findings, seeds, files that are whole or absent, and a choice of device
- `cv_recipe.data`: A data set as one table: a row an image, known by its content, on one side of the split for good
- `cv_recipe.dups`: Find images that are the same picture, above all those on both sides of the split
- `cv_recipe.engine`: Run one function on many specs, in processes of their own, and lose none
- `cv_recipe.export`: A trained model as a folder that travels: tensors and a page of JSON, no pickle
- `cv_recipe.features`: What a frozen network sees in each image, computed once and kept by content
- `cv_recipe.final`: The shipped model against the test images, once, and the look is counted
- `cv_recipe.finetune`: The safe road to a good model: a frozen probe, then the whole network, one cycle, mild augmentation
- `cv_recipe.gates`: Three questions that a broken pipeline cannot answer: the loss before the first step, one batch learned by heart, and the same with the images blanked
- `cv_recipe.images`: One opener for every file: the right way up, in 8 bits, at the size asked for, or one line that says why not
- `cv_recipe.labels`: Which labels to look at first, and how many are wrong, if that can be told
- `cv_recipe.layout`: What the names of folders say: splits, classes, masks, and what does not belong
- `cv_recipe.loader`: fastai's DataLoaders on the cache: a batch is one gather, and everything fastai does with a loader still works
- `cv_recipe.look`: How many of what, how large, and what do they look like?
- `cv_recipe.model`: Any timm model, with weights that are known by tag and hash, and a plain word when there are none
- `cv_recipe.pipe`: `Config` says every decision, `fit` is the one door through which anything trains
- `cv_recipe.planted`: Two sets of image files that need no download: real digits, and drawn scenes whose every fault is known
- `cv_recipe.probe`: A linear model on any numbers, for any kind of label, with the strength of its penalty chosen on rows it did not see
- `cv_recipe.quality`: Which images are broken, dark, blurred, turned, or unlike the rest, and what to do about it
- `cv_recipe.recipe`: All stages there are, in order, within the time given; stopped at any moment, and taken up again by the same call
- `cv_recipe.report`: One HTML file that tells a manager in two minutes what came out, and an engineer in twenty why
- `cv_recipe.runs`: A ledger of all that was tried: append-only, written by several processes, safe to kill at any moment
- `cv_recipe.scan`: Read every file once, decode it once, and keep what later stages ask: a line of numbers and two thumbnails
- `cv_recipe.stage`: Where a stage of the recipe says who it is, what it needs and what it costs, so that the whole can run it
- `cv_recipe.stats`: How sure are we? Intervals for shares, means and differences, and for configs that were trained with several seeds
- `cv_recipe.strange`: Which images are unlike all others of the set?
- `cv_recipe.table`: What a csv or a DataFrame of labels says: columns, kinds of labels, splits, and what contradicts itself
- `cv_recipe.task`: What a kind of label means: target, loss, activation, metric, decoding, and where training should begin"""

__version__ = "0.0.1"
