import httpx


def test_usage_is_told_where_no_keys_are_used(http: httpx.Client) -> None:
    told = http.get("/v1/usage").json()
    assert told["owner"] == "local" and told["key"] is None
    assert told["photos"]["limit"] is None and told["gpu_minutes"]["used"] >= 0
