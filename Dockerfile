# One static binary and the certificates it needs to call others; no shell, no package manager, no root.
# docker build --build-arg VERSION=$(git describe --tags --always) -t statesvc .
ARG GO_VERSION=1.26

FROM golang:${GO_VERSION} AS build
WORKDIR /src
# Modules first: they change less often than the code, so their layer is kept.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=unknown
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=${VERSION}" -o /out/statesvc ./cmd/statesvc \
    && mkdir -p /out/data /out/tmp

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/statesvc /statesvc
# SQLite needs a folder for temporary files; embedded mode keeps its databases in /data.
COPY --from=build --chown=65532:65532 /out/tmp /tmp
COPY --from=build --chown=65532:65532 /out/data /data
VOLUME /data
WORKDIR /data
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/statesvc"]
CMD ["serve"]
