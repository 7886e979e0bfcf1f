# All AntMaze artefacts, in order; the walker is shipped first.
set -e
P=.venv/bin/python
$P -m ttlib.datasets.behaviours train antwalker --seed 0
$P -m ttlib.datasets.ship antwalker data/cache/behaviours/antwalker-0
$P -m ttlib.datasets.maze_walks try antmaze-umaze antmaze-medium-play antmaze-large-diverse
$P -m ttlib.datasets.maze_walks manifest antmaze-umaze antmaze-medium-play antmaze-medium-diverse antmaze-large-play antmaze-large-diverse --transitions 25000 --seeds 5
$P -m ttlib.datasets.datasheet
for m in umaze medium-play medium-diverse large-play large-diverse; do
  OMP_NUM_THREADS=1 $P -m ttlib.baselines.iql --dataset local:antmaze-$m --updates 300000 --out data/checkpoints/antmaze-$m-iql.safetensors
  OMP_NUM_THREADS=1 .venv/bin/torchrun --nproc-per-node 2 --master-port 29512 -m ttlib.training --dataset local:antmaze-$m --tokens 60e6 --out data/checkpoints/antmaze-$m.safetensors
done
OMP_NUM_THREADS=1 $P -m ttlib.baselines.iql --dataset local:pointmaze-large-play --updates 150000 --out data/checkpoints/pointmaze-large-play-iql.safetensors
OMP_NUM_THREADS=1 .venv/bin/torchrun --nproc-per-node 2 -m ttlib.training --dataset local:pointmaze-large-play --tokens 20e6 --out data/checkpoints/pointmaze-large-play.safetensors
make study NAME=antmaze
