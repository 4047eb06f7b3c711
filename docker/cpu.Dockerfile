# Worker for CPUs: ionloop, DeePMD-kit, LAMMPS, GPAW, CP2K, FireWorks and jobflow-remote.
#   docker build -f docker/cpu.Dockerfile -t ionloop-worker .
# Every step is a script, so that the same steps make the Apptainer image and are tested without Docker.
FROM debian:bookworm-slim

COPY docker/install-system.sh docker/install-gpaw.sh docker/install-cp2k.sh docker/remove-build-tools.sh /opt/build/
# In one layer, because files that are removed at the end must not be part of an earlier layer.
RUN /opt/build/install-system.sh python3-dev && \
    /opt/build/install-gpaw.sh /opt/gpaw && \
    /opt/build/install-cp2k.sh && \
    /opt/build/remove-build-tools.sh /opt/gpaw

ARG EXTRAS=deepmd,fireworks,remote
COPY pyproject.toml constraints.txt README.md LICENSE /opt/build/ionloop/
COPY schemas /opt/build/ionloop/schemas
COPY makers /opt/build/ionloop/makers
COPY workflows /opt/build/ionloop/workflows
COPY docker/install-ionloop.sh docker/check.sh /opt/build/
RUN /opt/build/install-ionloop.sh /opt/build/ionloop "$EXTRAS"
COPY docker/worker.py /usr/local/bin/ionloop-worker

# One thread per process, because several processes run at the same time. Open MPI: no binding to
# cores, which would put every calculation on the first ones; no single-copy mechanism, which needs
# ptrace, and containers forbid that.
ENV PATH=/opt/ionloop/bin:/usr/local/bin:/usr/bin:/bin \
    OMP_NUM_THREADS=1 \
    DP_INTRA_OP_PARALLELISM_THREADS=1 \
    DP_INTER_OP_PARALLELISM_THREADS=1 \
    TF_CPP_MIN_LOG_LEVEL=2 \
    OMPI_MCA_hwloc_base_binding_policy=none \
    OMPI_MCA_btl_vader_single_copy_mechanism=none \
    PYTHONUNBUFFERED=1

USER 1000:1000
WORKDIR /home/ionloop/work
HEALTHCHECK --interval=1m --timeout=15s CMD ["ionloop-worker", "ping"]
ENTRYPOINT ["tini", "--", "ionloop-worker"]
CMD ["fireworks"]
