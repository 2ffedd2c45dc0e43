"""The recipe of the embedded base: from drawn portraits to a folder that Stable Diffusion's pipeline opens.

Run all of it with ``python -m studio.pocket.recipe all --work DIR``, or one stage at a time:

1. ``render``       draw pictures, captions and labels to ``DIR/data``
2. ``autoencoder``  fit the linear encoder (8 times smaller), cache the latents, train the decoder
3. ``faces``        train the detector of faces and their landmarks
4. ``identity``     train the identity encoder and the attribute classifier, calibrate likeness
5. ``denoiser``     train text encoder and UNet together on the cached latents (v-prediction)
6. ``decoder``      train the decoder on what the denoiser makes: features instead of smears
7. ``export``       write the averaged weights as fp16 in diffusers' layout
8. ``report``       measure what was exported: ``report.json`` and a sheet of samples

Each training stage stops after its ``--minutes`` (paused time does not count), writes a checkpoint every minute and
goes on from the newest one, so a stage that was killed is resumed by the same command, and a finished one is extended
by a larger ``--minutes``. Each logs JSON lines to ``DIR/<stage>.jsonl``.

A work folder that is gone can be begun again from what was exported: ``--base studio/pocket/base`` puts the
weights of that model into an empty work folder, and the stages go on from there.
"""
