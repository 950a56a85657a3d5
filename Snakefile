include: "workflow/Snakefile"


# An include does not hand on its default rule.
workflow.default_target = "all"
