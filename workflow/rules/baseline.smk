# The MLE's own structures, Hessians and values: where every member starts.


rule compute_baseline:
    input:
        members=rules.draw_members.output[0],
    output:
        starts=f"{OUT}/baseline/{{property}}.npz",
        values=f"{OUT}/baseline/{{property}}.parquet",
    log:
        f"{OUT}/logs/compute_baseline/{{property}}.log",
    conda:
        "../../envs/popsbounds.yaml"
    params:
        settings=lambda wildcards: property_settings(wildcards.property),
    resources:
        runtime=60,
    message:
        "Relaxing the structures of {wildcards.property} under the MLE"
    script:
        "../scripts/compute_baseline.py"


def property_settings(name):
    """The part of the configuration that the values of one property depend on."""
    return settings("material", "descriptors") | {
        "property": settings("properties")["properties"][name],
        "relax": settings("propagate")["propagate"]["relax"],
    }
