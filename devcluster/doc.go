// Package devcluster is a Marathon on a laptop: an HTTP server that speaks Marathon's API, events and deployments, and runs apps
// as local processes, or as virtual tasks, on simulated agents of 127.0.0.0/8; or as processes of other machines, each with a
// Machine of its own.
//
// It is faithful to Marathon 1.11, or to 1.4 with Config.Emulate. Where a single machine cannot be, it differs so:
//   - An app with a Docker image fails, and says that it needs Docker. There is no network namespace: a task in bridge mode gets
//     its host ports as PORT0…, and one on a container network an address of 127.64.0.0/10 of its own, as MESOS_CONTAINER_IP.
//   - Host ports are unique over all agents, because a task may listen on 0.0.0.0.
//   - Tasks end when this server does. With Config.Persist the apps come back at the next start, and new tasks of them.
//
// Faults are made through POST /devcluster/faults, listed by GET and ended by DELETE; see Fault.
package devcluster
