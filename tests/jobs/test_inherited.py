from studio.jobs.inherited import inherited


def test_a_jobs_process_inherits_what_is_known_to_be_harmless_and_nothing_else() -> None:
    kept = {"PATH": "/bin", "LC_ALL": "C", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "0", "https_proxy": "p"}
    kept |= {"HF_HOME": "/hf", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1", "PYTHONPATH": "/x"}
    secret = {"GOOGLE_API_KEY": "s", "AZURE_CLIENT_SECRET": "s", "OPENAI_API_KEY": "s", "DATABASE_URL": "s"}
    secret |= {"HF_TOKEN": "s", "HF_HUB_TOKEN": "s", "STUDIO_BACKUP_URL": "s", "TORCH_AUTH": "s", "SSH_AUTH_SOCK": "s"}
    assert inherited(kept | secret) == kept
    assert inherited(kept | secret, ["DATABASE_URL"]) == kept | {"DATABASE_URL": "s"}
