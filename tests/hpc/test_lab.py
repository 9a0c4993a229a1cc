"""The lab itself: a real Slurm on this machine does what Slurm does, and goes wrong as one wants it to."""


def test_a_job_runs_on_a_node_and_ends(slurm):
    job = slurm.submit("sleep 0.1", "--job-name=short", "--comment=a | comment")
    ended = slurm.wait_for_state(job, "COMPLETED")
    assert ended.ended
    assert (ended.name, ended.comment) == ("short", "a | comment")
    assert ended.node in slurm.nodes
