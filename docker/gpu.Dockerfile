# Worker for NVIDIA GPUs: ionloop, DeePMD-kit, LAMMPS, FireWorks and jobflow-remote.
#   docker build -f docker/gpu.Dockerfile -t ionloop-worker-gpu .
#   docker build -f docker/gpu.Dockerfile --build-arg EXTRAS=deepmd-gpu-torch,fireworks,remote .
# Plain Debian: the CUDA libraries come with the Python packages, in the versions for which these were
# built. Only the driver is that of the host; the NVIDIA Container Toolkit provides it.
FROM debian:bookworm-slim

COPY docker/install-system.sh /opt/build/
RUN /opt/build/install-system.sh

ARG EXTRAS=deepmd-gpu,fireworks,remote
COPY pyproject.toml constraints.txt README.md LICENSE /opt/build/ionloop/
COPY schemas /opt/build/ionloop/schemas
COPY makers /opt/build/ionloop/makers
COPY workflows /opt/build/ionloop/workflows
COPY docker/constraints-gpu.txt /opt/build/ionloop/docker/
COPY docker/install-ionloop.sh docker/check.sh /opt/build/
RUN /opt/build/install-ionloop.sh /opt/build/ionloop "$EXTRAS"
COPY docker/worker.py /usr/local/bin/ionloop-worker

# One thread per process, because several processes run at the same time.
ENV PATH=/opt/ionloop/bin:/usr/local/bin:/usr/bin:/bin \
    OMP_NUM_THREADS=1 \
    DP_INTRA_OP_PARALLELISM_THREADS=1 \
    DP_INTER_OP_PARALLELISM_THREADS=1 \
    TF_CPP_MIN_LOG_LEVEL=2 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PYTHONUNBUFFERED=1

USER 1000:1000
WORKDIR /home/ionloop/work
HEALTHCHECK --interval=1m --timeout=15s CMD ["ionloop-worker", "ping"]
ENTRYPOINT ["tini", "--", "ionloop-worker"]
CMD ["fireworks"]
