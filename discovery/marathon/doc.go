// Package marathon reads services from Marathon, of any version from 0.8 to 1.11: it follows the event stream, reads the apps that
// events name, and turns apps and pods into services.
package marathon
