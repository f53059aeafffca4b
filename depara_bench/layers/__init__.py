"""Which layer of a source network to transfer from: DEPARA between every layer of a source and the
last layer of a target network (Song et al., CVPR 2020, sec. 4.3), and the truth it is judged by.

job.py says what; train.py and measure.py make the truth; extract.py, select.py and judge.py compute
and judge the similarities; run.py writes them into a folder. See docs/layers.md.
"""
