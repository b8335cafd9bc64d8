import pytest

from deployments.jobs.resources import JobResources, lasting_cpus, plan_resources


def asked(plan: JobResources) -> float:
    return plan.encoders * plan.encoder_cpus + plan.preparers * plan.preparer_cpus + plan.writers * plan.writer_cpus


@pytest.mark.parametrize("free", [0.2, 0.55, 1.0, 2.0])
@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_what_is_asked_for_fits_into_what_a_service_leaves_free(free: float, share: float) -> None:
    plan = plan_resources(cpus=2, gpus=0, free_cpus=free, free_gpus=0, share=share)
    assert asked(plan) < min(free, max(1.0, 2 * share))


def test_two_cores_get_two_encoders_of_one_thread_and_half_of_them_one() -> None:
    whole = plan_resources(cpus=2, gpus=0, free_cpus=2, free_gpus=0, share=1)
    half = plan_resources(cpus=2, gpus=0, free_cpus=2, free_gpus=0, share=0.5)
    assert (whole.encoders, whole.threads, whole.steps_back) == (2, 1, False)
    assert (half.encoders, half.threads, half.steps_back) == (1, 1, True)


def test_many_cores_are_not_filled_with_a_model_each() -> None:
    plan = plan_resources(cpus=64, gpus=0, free_cpus=64, free_gpus=0, share=0.5)
    assert plan.encoders * plan.threads == 32
    assert plan.encoders == 8


def test_every_gpu_gets_one_encoder_on_the_part_that_is_free() -> None:
    plan = plan_resources(cpus=32, gpus=4, free_cpus=30, free_gpus=2, share=1)
    assert (plan.encoders, plan.encoder_gpus) == (4, 0.5)
    assert plan_resources(cpus=32, gpus=4, free_cpus=30, free_gpus=4, share=0.5).encoder_gpus == 0.5


def test_encoders_prepare_where_each_has_one_thread_of_a_cpu() -> None:
    few = plan_resources(cpus=2, gpus=0, free_cpus=2, free_gpus=0, share=1)
    many = plan_resources(cpus=16, gpus=0, free_cpus=16, free_gpus=0, share=1)
    with_gpu = plan_resources(cpus=2, gpus=1, free_cpus=2, free_gpus=1, share=1)
    assert (few.encoders_prepare, many.encoders_prepare, with_gpu.encoders_prepare) == (True, False, False)


def test_the_user_has_the_last_word() -> None:
    plan = plan_resources(cpus=8, gpus=0, free_cpus=8, free_gpus=0, share=1, threads=2, encoders=3, preparers=5)
    assert (plan.threads, plan.encoders, plan.preparers) == (2, 3, 5)


def test_workers_ask_for_what_is_left_when_the_largest_node_is_lost() -> None:
    nodes = [0.0, 4.0, 2.0, 2.0]
    assert lasting_cpus(8, nodes) == 4
    plan = plan_resources(cpus=8, gpus=0, free_cpus=lasting_cpus(8, nodes), free_gpus=0, share=1)
    assert (plan.encoders * plan.threads, asked(plan) < 4) == (8, True)


def test_a_cluster_of_one_node_that_works_has_nothing_to_keep_free() -> None:
    assert lasting_cpus(3, [4.0]) == lasting_cpus(3, [0.0, 4.0]) == 3
