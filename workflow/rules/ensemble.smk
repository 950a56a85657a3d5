# Members drawn from the posterior, and their LAMMPS files.


rule draw_members:
    input:
        posterior=rules.fit_posterior.output.posterior,
    output:
        f"{OUT}/ensemble/members.npz",
    log:
        f"{OUT}/logs/draw_members.log",
    conda:
        "../../envs/popsbounds.yaml"
    params:
        settings=settings("seed", "ensemble"),
    message:
        "Drawing {params.settings[ensemble][members]} members"
    script:
        "../scripts/draw_members.py"


# On demand: snakemake write_potentials
rule write_potentials:
    input:
        members=rules.draw_members.output[0],
        config=f"{OUT}/config.yaml",
    output:
        directory(f"{OUT}/ensemble/potentials"),
    log:
        f"{OUT}/logs/write_potentials.log",
    conda:
        "../../envs/popsbounds.yaml"
    message:
        "Writing the members as LAMMPS potentials"
    script:
        "../scripts/write_potentials.py"
