"""The threshold, metrics and their intervals.

`stages.score.evaluate.evaluate` computes the metrics of one detector on one category. Its keys:

| key | meaning |
| --- | --- |
| `image_auroc`, `image_auroc_ci` | area under the ROC curve of the image scores; [lo, hi] by bootstrap of groups |
| `image_aupr`, `image_aupr_ci` | average precision of the image scores; [lo, hi] |
| `f1_max`, `f1_max_threshold` | best F1 over all thresholds (score >= threshold), and the highest that reaches it |
| `fpr_at_95tpr` | lowest false-positive rate at which at least 95 % of the defects are found |
| `threshold` | deployed threshold, from good validation images only; an image with a score above it is rejected |
| `threshold_note` | why the target overkill cannot be promised; null if it can |
| `overkill_bound` | the overkill that is promised (exchangeable images, the same model): see `score.guarantee` |
| `overkill_risk` | chance, over draws of validation images, that the overkill of a line exceeds the target |
| `escape_rate`, `escape_rate_ci` | share of test defects passed at that threshold; [lo, hi] by Wilson |
| `overkill_rate`, `overkill_rate_ci` | share of good test images rejected at that threshold; [lo, hi] by Wilson |
| `pixel_auroc`, `aupro` | pixel metrics over the images with a known mask |
| `n_test_normal`, `n_test_defect`, `n_validation`, `n_masks` | numbers of images |
| `groups_note` | what few groups mean for the intervals; null with ten groups or more, or without groups |
| `n_groups_normal`, `n_groups_defect` | numbers of groups that the test images of each class come from |
| `per_type` | by defect type: `image_auroc`, its interval, `image_aupr`, `escape_rate`, `n`, `reasons` |
| `reasons` | key of each metric that is null -> why it is null |
"""
