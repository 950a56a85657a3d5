import pandas as pd

from popsbounds.dataset import build_dataset, write_frames
from popsbounds.job import random_generator, start

config = start(snakemake)
frames, table = build_dataset(config, list(snakemake.input.generated), random_generator(config, "split"))
write_frames(snakemake.output.structures, frames)
table.to_parquet(snakemake.output.table, index=False)
failures = [pd.read_csv(path) for path in snakemake.input.unlabelled]
unlabelled = pd.concat([pd.DataFrame({"frame": [], "reason": []}), *failures]).astype({"frame": int})
unlabelled.sort_values("frame").to_csv(snakemake.output.unlabelled, index=False)
