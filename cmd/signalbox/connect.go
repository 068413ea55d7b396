package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"signalbox/admin"
)

// systemSocket is the admin socket of a controller that systemd started from the unit of `signalbox init`.
const systemSocket = "/run/signalbox/admin.sock"

// devDirectory returns the directory of the signalbox dev of this user, and makes it. Nobody else may enter it.
func devDirectory() (string, error) {
	dir := filepath.Join(os.TempDir(), "signalbox-"+strconv.Itoa(os.Getuid()))
	if runtime := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(runtime) {
		dir = filepath.Join(runtime, "signalbox")
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("making the directory of signalbox dev: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", fmt.Errorf("making the directory of signalbox dev: %w", err)
	}
	// The parent may be everybody's: whoever came first could read along.
	if !info.IsDir() || !ownedBy(info, os.Getuid()) || info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("making the directory of signalbox dev: %s exists and is not a directory of this user alone", dir)
	}
	return dir, nil
}

// devSocket returns the path of the admin socket of this user's signalbox dev.
func devSocket() (string, error) {
	dir, err := devDirectory()
	return filepath.Join(dir, "admin.sock"), err
}

func ownedBy(info fs.FileInfo, uid int) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == uid
}

// client returns a client of the controller that a verb means: the one that --admin names, else the one that systemd started,
// else this user's signalbox dev, else the one at the default address.
func (p *program) client(s *settings) (*admin.Client, error) {
	addresses, err := s.adminAddresses()
	if err != nil {
		return nil, &exitError{code: exitUsage, err: err}
	}
	if len(addresses) == 0 {
		return nil, usageError("--admin: no address is given")
	}
	if p.origins["admin"] == fromDefault {
		candidates := []string{systemSocket}
		if dev, err := devSocket(); err == nil {
			candidates = append(candidates, dev)
		}
		for _, path := range candidates {
			if info, err := os.Stat(path); err == nil && info.Mode().Type() == fs.ModeSocket {
				return admin.NewClient(admin.Address{Socket: path}, ""), nil
			}
		}
	}
	address := addresses[0]
	for _, a := range addresses {
		if a.Socket != "" {
			address = a // asks for no token
			break
		}
	}
	return admin.NewClient(address, s.adminTokenFile()), nil
}

// clusterClient returns a client of the controller that a verb means, or of a hub.
func (p *program) clusterClient(s *settings, cluster bool) (*admin.Client, error) {
	if !cluster {
		return p.client(s)
	}
	if len(s.Hub) == 0 {
		return nil, usageError("--cluster: no hub is given; --hub names one")
	}
	client, err := admin.NewHubClient(s.Hub[0], s.HubTokenFile)
	if err != nil {
		return nil, &exitError{code: exitUsage, err: fmt.Errorf("--hub: %w", err)}
	}
	return client, nil
}

// ofHub says of an error in asking a hub what to do.
func ofHub(err error, cluster bool) error {
	if cluster && errors.Is(err, admin.ErrUnreachable) {
		return &exitError{code: exitUnreachable, err: fmt.Errorf("asking the hub: %w", err), try: "--hub with the URL of one that runs"}
	}
	return err
}
