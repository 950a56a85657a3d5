from popsbounds.dataset import build_dataset, write_frames
from popsbounds.job import random_generator, start

config = start(snakemake)
frames, table = build_dataset(config, list(snakemake.input.generated), random_generator(config, "split"))
write_frames(snakemake.output.structures, frames)
table.to_parquet(snakemake.output.table, index=False)
