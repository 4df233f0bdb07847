"""The control plane: watches a pipeline and steers it, beside the workers, which run on without it.

The only folder that imports Faust, aiokafka and aiohttp.
"""
