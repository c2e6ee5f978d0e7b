/* The images of a synthetic fleet: what hardware, firmware and system a class of machines has, and
 * so what its boot measures. Made after event logs of cloud machines (edk2), servers (HPE, Dell,
 * Supermicro) and their Debian, Ubuntu and RHEL boot loaders. */
#ifndef QM_GEN_IMAGE_H
#define QM_GEN_IMAGE_H

#include "tools/gen/gen_log.h"

enum {
    QM_GEN_EVENTS_MIN = 24, /* the core of a boot: fewer would leave a baselined PCR or a target of
                               --update without events */
    QM_GEN_EVENTS_MAX = 16384,
    QM_GEN_LOG_BYTES_MIN = 2048,
};

struct qm_gen_image {
    const char *name; /* and the group of its machines */
    const char *role;
    unsigned share;  /* of 100 machines */
    uint16_t events; /* where --events does not say */
    uint32_t log_bytes;
    uint64_t firmware; /* firmwareVersion in the quote: the TPM's */
    bool grouped; /* false: each machine installed by hand, its root's UUID on the kernel's command
                     line (PCR 8), no group */
    bool secure_boot;
    bool boot2;       /* newer firmware: EV_EFI_VARIABLE_BOOT2 and the other second forms */
    bool old_grub;    /* RHEL 8's forms of grub's events */
    bool rhel;        /* grub.cfg by BLS, not by update-grub */
    uint8_t locality; /* of TPM2_Startup */
    uint8_t option_roms;
    uint8_t firmware_blobs;
    const char *crtm;
    const char *vendor; /* whose PK and KEK; "" : a virtual machine */
    const char *distro;
    const char *efi_dir;
    const char *grub_dir; /* as grub names it */
    const char *root;     /* root= and what follows; @U is the root file system's UUID */
    const char *root_uuid;
    const char *kernel[2]; /* before and after --update; of one length */
};

size_t qm_gen_image_count(void);
const struct qm_gen_image *qm_gen_image_at(size_t i);
/* Which image a machine has. */
size_t qm_gen_image_of(uint64_t seed, uint64_t machine);

/* The template of image i with its old or new kernel. events, log_bytes: 0 for the image's own; a
 * log of exactly that many events, and of exactly that many bytes or as few above as those events
 * need. */
qm_err qm_gen_image_template(size_t i, bool updated, size_t events, size_t log_bytes,
                             struct qm_gen_hasher *h, struct qm_gen_template *out,
                             struct qm_fault *fault) QM_MUST_USE;

#endif
