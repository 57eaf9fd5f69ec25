# The image of operator, agents and tool servers. What stands in it is decided in scripts/image/root.ts, which "npm run image" uses as well.
FROM node:24.21.0-bookworm-slim AS build
WORKDIR /src
COPY package.json package-lock.json ./
RUN npm ci --no-audit --no-fund
COPY . .
# The root of the image: this Node, the shared objects that it needs, the packed project and its dependencies, and nothing else.
RUN /usr/local/bin/node scripts/image.ts --root /image

FROM scratch
COPY --from=build /image/ /
ENV PATH=/usr/local/bin HOME=/tmp NODE_ENV=production
WORKDIR /app
USER 65532:65532
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/kaos"]
CMD ["--help"]
