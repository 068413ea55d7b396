// Package file reads static services, which live outside the cluster, from one YAML or JSON file: databases, mail servers, the
// neighbours. It follows the file; a broken one keeps what was good before and says which line is wrong.
package file
