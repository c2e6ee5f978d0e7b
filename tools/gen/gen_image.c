#include "tools/gen/gen_image.h"

#include <stdio.h>

#include "tools/gen/gen_efi.h"
#include "tools/gen/gen_rand.h"

/* Event types: TCG PC Client Platform Firmware Profile, 10.4.1. */
enum {
    EV_POST_CODE = 0x01,
    EV_NO_ACTION = 0x03,
    EV_SEPARATOR = 0x04,
    EV_S_CRTM_CONTENTS = 0x07,
    EV_S_CRTM_VERSION = 0x08,
    EV_PLATFORM_CONFIG_FLAGS = 0x0a,
    EV_COMPACT_HASH = 0x0c,
    EV_IPL = 0x0d,
    EV_NONHOST_INFO = 0x11,
};
#define EV_EFI_VARIABLE_DRIVER_CONFIG    0x80000001u
#define EV_EFI_VARIABLE_BOOT             0x80000002u
#define EV_EFI_BOOT_SERVICES_APPLICATION 0x80000003u
#define EV_EFI_BOOT_SERVICES_DRIVER      0x80000004u
#define EV_EFI_GPT_EVENT                 0x80000006u
#define EV_EFI_ACTION                    0x80000007u
#define EV_EFI_PLATFORM_FIRMWARE_BLOB    0x80000008u
#define EV_EFI_HANDOFF_TABLES            0x80000009u
#define EV_EFI_PLATFORM_FIRMWARE_BLOB2   0x8000000au
#define EV_EFI_HANDOFF_TABLES2           0x8000000bu
#define EV_EFI_VARIABLE_BOOT2            0x8000000cu
#define EV_EFI_VARIABLE_AUTHORITY        0x800000e0u

/* clang-format off */
static const struct qm_gen_image images[] = {
    {.name = "debian12-web", .role = "web", .share = 26, .events = 82, .log_bytes = 24100, .firmware = 0x2017061900163636,
     .grouped = true, .secure_boot = true, .firmware_blobs = 2, .crtm = "edk2-stable202402-7", .vendor = "", .distro = "debian",
     .efi_dir = "debian", .grub_dir = "(hd0,gpt2)/boot/grub", .root = "root=UUID=@U ro console=ttyS0,115200 net.ifnames=0",
     .root_uuid = "5f2c0a4e-8d0b-4c36-9e43-6f2b9a1d7c55", .kernel = {"6.1.0-21-cloud-amd64", "6.1.0-25-cloud-amd64"}},
    {.name = "ubuntu2404-app", .role = "app", .share = 22, .events = 97, .log_bytes = 27300, .firmware = 0x2017061900163636,
     .grouped = true, .secure_boot = true, .boot2 = true, .firmware_blobs = 3, .crtm = "GCE Virtual Firmware v2", .vendor = "",
     .distro = "ubuntu", .efi_dir = "ubuntu", .grub_dir = "(hd0,gpt2)/grub",
     .root = "root=PARTLABEL=cloudimg-rootfs ro console=tty1 console=ttyS0 panic=-1",
     .root_uuid = "7347cbe6-dea5-4cbe-ad67-a0b6a139262c", .kernel = {"6.8.0-1014-gcp", "6.8.0-1018-gcp"}},
    {.name = "rhel9-db", .role = "db", .share = 14, .events = 112, .log_bytes = 43800, .firmware = 0x0007005500000000,
     .grouped = true, .secure_boot = true, .rhel = true, .option_roms = 7, .firmware_blobs = 3,
     .crtm = "A55 v1.62 (05/22/2024)", .vendor = "HPE", .distro = "rhel", .efi_dir = "redhat", .grub_dir = "(hd0,gpt2)/grub2",
     .root = "root=/dev/mapper/rhel-root ro crashkernel=1G-4G:192M,4G-64G:256M resume=/dev/mapper/rhel-swap rd.lvm.lv=rhel/root",
     .root_uuid = "4dbc98d4-cc1a-4f57-af34-3f374f4954bf",
     .kernel = {"5.14.0-427.13.1.el9_4.x86_64", "5.14.0-427.31.1.el9_4.x86_64"}},
    {.name = "alma9-cache", .role = "cache", .share = 10, .events = 88, .log_bytes = 21500, .firmware = 0x2023032200000000,
     .grouped = true, .secure_boot = true, .boot2 = true, .rhel = true, .firmware_blobs = 2, .crtm = "edk2-20231122-6.el9",
     .vendor = "", .distro = "almalinux", .efi_dir = "almalinux", .grub_dir = "(hd0,gpt2)/grub2",
     .root = "root=UUID=@U ro console=ttyS0 no_timer_check biosdevname=0",
     .root_uuid = "a6ac5fb2-33e1-4e4f-8a8b-7a2a5d4a9f10",
     .kernel = {"5.14.0-427.16.1.el9_4.x86_64", "5.14.0-427.40.1.el9_4.x86_64"}},
    {.name = "ubuntu2204-build", .role = "build", .share = 9, .events = 104, .log_bytes = 36400, .firmware = 0x0007005300040001,
     .grouped = true, .secure_boot = true, .boot2 = true, .locality = 3, .option_roms = 4, .firmware_blobs = 9, .crtm = "2.19.1",
     .vendor = "Dell Inc.", .distro = "ubuntu", .efi_dir = "ubuntu", .grub_dir = "(hd0,gpt2)/boot/grub",
     .root = "root=LABEL=build-root ro quiet splash",
     .root_uuid = "12f8b4bd-fdd8-409b-a5d0-47befb15ade3", .kernel = {"5.15.0-107-generic", "5.15.0-122-generic"}},
    {.name = "debian11-edge", .role = "edge", .share = 8, .events = 58, .log_bytes = 15900, .firmware = 0x0001000300020008,
     .grouped = true, .secure_boot = true, .option_roms = 1, .firmware_blobs = 3, .crtm = "SDV.RP.B11.04 Release Build",
     .vendor = "Edge Systems", .distro = "debian", .efi_dir = "debian", .grub_dir = "(hd0,gpt2)/boot/grub",
     .root = "root=LABEL=edge ro quiet panic=10", .root_uuid = "d4b018ac-5304-4aac-9a0d-0d3a3c5c8c11",
     .kernel = {"5.10.0-29-amd64", "5.10.0-32-amd64"}},
    {.name = "rhel8-gpu", .role = "gpu", .share = 6, .events = 92, .log_bytes = 33700, .firmware = 0x000d000b00000000,
     .grouped = true, .secure_boot = true, .boot2 = true, .old_grub = true, .rhel = true, .option_roms = 8, .firmware_blobs = 1,
     .crtm = "5.27", .vendor = "Supermicro", .distro = "rhel", .efi_dir = "redhat", .grub_dir = "(hd0,gpt1)/EFI/redhat",
     .root = "root=LABEL=gpu-root ro crashkernel=auto rd.driver.blacklist=nouveau intel_iommu=on iommu=pt",
     .root_uuid = "f3948fb4-cce7-4193-940a-c50052e93bf3",
     .kernel = {"4.18.0-553.5.1.el8_10.x86_64", "4.18.0-553.8.1.el8_10.x86_64"}},
    {.name = "fedora40-lab", .role = "lab", .share = 5, .events = 76, .log_bytes = 19600, .firmware = 0x0007000200000000,
     .rhel = true, .secure_boot = false, .option_roms = 2, .firmware_blobs = 4, .locality = 3, .crtm = "N2HET77W (1.60)",
     .vendor = "Lenovo", .distro = "fedora", .efi_dir = "fedora", .grub_dir = "(hd0,gpt2)/grub2",
     .root = "root=UUID=@U ro rootflags=subvol=root rhgb quiet",
     .root_uuid = "00000000-0000-0000-0000-000000000000", .kernel = {"6.8.9-300.fc40.x86_64", "6.9.7-200.fc40.x86_64"}},
};
/* clang-format on */

size_t qm_gen_image_count(void)
{
    return QM_COUNT(images);
}

const struct qm_gen_image *qm_gen_image_at(size_t i)
{
    return &images[i];
}

size_t qm_gen_image_of(uint64_t seed, uint64_t machine)
{
    uint64_t at = qm_gen_u64(seed, machine, QM_FOR_IMAGE, 0) % 100;
    size_t i = 0;
    for (; i + 1 < QM_COUNT(images) && at >= images[i].share; i++)
        at -= images[i].share;
    return i;
}

/* How a plan is brought to the asked number of events and bytes. */
struct shape {
    unsigned detail;    /* 0: full certificates, 1: small ones, 2: few and small */
    size_t dbx_entries; /* at least 1 */
    size_t setup_bytes; /* of the firmware's setup variable: what is left of a dbx entry */
    size_t filler;      /* more grub events */
};

struct writer {
    const struct qm_gen_image *image;
    const char *kernel;
    struct shape shape;
    struct qm_gen_plan *plan;
    struct qm_out *out; /* &plan->data */
    uint16_t salt;      /* of the last digest that is the machine's own */
};

/* Priorities: what goes first when few events are asked for. */
enum {
    CORE = 0,
    LOADER = 1,
    TRUST = 2,
    BOOT = 3,
    DEVICES = 4,
    FIRMWARE = 5,
    SCRIPT = 6,
    DETAIL = 7
};

static void separator(struct writer *w, uint32_t pcr)
{
    qm_gen_plan_event(w->plan, pcr, EV_SEPARATOR, CORE);
    qm_put_le(w->out, 0, 4);
}

static void action(struct writer *w, uint32_t pcr, const char *text, uint8_t priority)
{
    qm_gen_plan_event(w->plan, pcr, EV_EFI_ACTION, priority);
    qm_out_text(w->out, text);
}

static void machine_digest(struct writer *w)
{
    qm_gen_plan_machine_digest(w->plan, ++w->salt);
}

/* --- PCR 0: the firmware --- */

static void firmware_blob(struct writer *w, unsigned i)
{
    const struct qm_gen_image *im = w->image;
    struct qm_gen_event *e = qm_gen_plan_event(
        w->plan, 0, im->boot2 ? EV_EFI_PLATFORM_FIRMWARE_BLOB2 : EV_EFI_PLATFORM_FIRMWARE_BLOB,
        i == 0 ? CORE : FIRMWARE);
    e->target = i == 0 ? QM_TARGET_FIRMWARE : QM_TARGET_NONE;
    if (im->boot2) { /* profile, 10.2.5: a description in front */
        char name[16];
        int n = snprintf(name, sizeof name, "FV_MAIN%u", i);
        qm_put_le(w->out, (uint64_t)n, 1);
        qm_out_text(w->out, name);
    }
    qm_put_le(w->out, 0xff000000u + 0x100000ull * i, 8);
    qm_put_le(w->out, 0x80000 + 0x20000ull * (i % 5), 8);
    qm_gen_plan_label(w->plan, "firmware volume %u of %s", i, im->crtm);
}

static void firmware_start(struct writer *w)
{
    const struct qm_gen_image *im = w->image;
    if (im->locality != 0) {
        qm_gen_plan_event(w->plan, 0, EV_NO_ACTION, CORE)->digest = QM_DIGEST_ZERO;
        qm_out_bytes(w->out, "StartupLocality", 16);
        qm_put_le(w->out, im->locality, 1);
        qm_gen_plan_event(w->plan, 0, EV_S_CRTM_CONTENTS, FIRMWARE);
        qm_out_bytes(w->out, "Boot Guard Measured S-CRTM", 27);
        qm_gen_plan_label(w->plan, "S-CRTM of %s", im->crtm);
    }
    qm_gen_plan_event(w->plan, 0, EV_S_CRTM_VERSION, CORE);
    qm_put_utf16(w->out, im->crtm);
    qm_put_le(w->out, 0, 2);
    if (im->vendor[0] == '\0') { /* what the host gives a virtual machine */
        qm_gen_plan_event(w->plan, 0, EV_NONHOST_INFO, FIRMWARE);
        qm_out_bytes(w->out, "GCE NonHostInfo", 16);
        qm_put_noise(w->out, im->crtm, 16);
    }
    for (unsigned i = 0; i < im->firmware_blobs; i++)
        firmware_blob(w, i);
}

static void post_codes(struct writer *w)
{
    for (unsigned i = 0; i < 2; i++) {
        qm_gen_plan_event(w->plan, 0, EV_POST_CODE, FIRMWARE);
        qm_out_text(w->out, "ACPI DATA");
        qm_gen_plan_label(w->plan, "ACPI table %u of %s", i, w->image->crtm);
    }
}

/* --- PCR 7: secure boot --- */

enum { CERT_LISTS_MAX = 4 };

/* A variable of certificate lists; names[i] are the subjects. */
static void cert_variable(struct writer *w, const char *guid, const char *name,
                          const char *const *subjects, size_t count)
{
    uint8_t cert[CERT_LISTS_MAX][QM_CERT_MAX];
    size_t len[CERT_LISTS_MAX], all = 0;
    if (w->shape.detail == 2 && count > 1)
        count = 1;
    for (size_t i = 0; i < count; i++) {
        len[i] =
            qm_cert_make(cert[i], subjects[i], subjects[i], w->shape.detail == 0 ? 2048 : 1024);
        all += 28 + 16 + len[i];
    }
    qm_gen_plan_event(w->plan, 7, EV_EFI_VARIABLE_DRIVER_CONFIG, TRUST);
    qm_put_variable(w->out, guid, name, all);
    for (size_t i = 0; i < count; i++)
        qm_put_cert_list(w->out, "77fa9abd-0359-4d32-bd60-28f4e78f784b", cert[i], len[i]);
}

#define CERT_UEFI_CA "Third Party UEFI CA 2011 (synthetic)"

static void secure_boot(struct writer *w)
{
    const struct qm_gen_image *im = w->image;
    char platform[64], exchange[64];
    snprintf(platform, sizeof platform, "%s Platform Key (synthetic)",
             im->vendor[0] != '\0' ? im->vendor : "Cloud");
    snprintf(exchange, sizeof exchange, "%s Key Exchange Key (synthetic)",
             im->vendor[0] != '\0' ? im->vendor : "Cloud");
    const char *pk[] = {platform}, *kek[] = {exchange, "Corporation KEK CA 2011 (synthetic)"};
    const char *db[] = {"Production PCA 2011 (synthetic)", CERT_UEFI_CA,
                        "UEFI CA 2023 (synthetic)"};

    struct qm_gen_event *e = qm_gen_plan_event(w->plan, 7, EV_EFI_VARIABLE_DRIVER_CONFIG, CORE);
    qm_put_variable(w->out, QM_GUID_GLOBAL, "SecureBoot", 1);
    e->target = im->secure_boot ? QM_TARGET_SECURE_BOOT : QM_TARGET_NONE;
    e->target_at = (uint32_t)(w->out->len - e->data_at);
    qm_put_le(w->out, im->secure_boot, 1);

    cert_variable(w, QM_GUID_GLOBAL, "PK", pk, 1);
    cert_variable(w, QM_GUID_GLOBAL, "KEK", kek, 2);
    cert_variable(w, QM_GUID_SECURITY, "db", db, im->vendor[0] != '\0' ? 3 : 2);

    e = qm_gen_plan_event(w->plan, 7, EV_EFI_VARIABLE_DRIVER_CONFIG, CORE);
    qm_put_variable(w->out, QM_GUID_SECURITY, "dbx", qm_hash_list_size(w->shape.dbx_entries));
    qm_put_hash_list(w->out, w->shape.dbx_entries, "revoked image");
    e->target = QM_TARGET_DBX;
    e->target_at = (uint32_t)(w->out->len - e->data_at - 32);
    separator(w, 7);
}

/* --- PCR 1 and 6: the machine's configuration; PCR 2: what its cards bring --- */

static void handoff_tables(struct writer *w)
{
    static const char smbios3[] = "f2fd1544-9794-4a2c-992e-e5bbcf20e394";
    qm_gen_plan_event(w->plan, 1, w->image->boot2 ? EV_EFI_HANDOFF_TABLES2 : EV_EFI_HANDOFF_TABLES,
                      CORE);
    if (w->image->boot2) {
        qm_put_le(w->out, 12, 1);
        qm_out_bytes(w->out, "SmbiosTable", 12);
    }
    qm_put_le(w->out, 1, 8);
    qm_put_guid(w->out, qm_guid_of(smbios3));
    qm_put_le(w->out, 0x7ed5e000, 8);
    machine_digest(w); /* serial numbers and UUID stand in the table */
}

static void platform_config(struct writer *w)
{
    char name[40];
    handoff_tables(w);
    for (unsigned i = 0; i < 3; i++) {
        qm_gen_plan_event(w->plan, 1, EV_PLATFORM_CONFIG_FLAGS, DEVICES);
        qm_out_text(w->out, "ACPI DATA");
        qm_gen_plan_label(w->plan, "ACPI configuration %u of %s", i, w->image->name);
    }
    qm_gen_plan_event(w->plan, 1, EV_EFI_VARIABLE_DRIVER_CONFIG, CORE);
    qm_put_variable(w->out, "ec87d643-eba4-4bb5-a1e5-3f3e36b20da9", "Setup", w->shape.setup_bytes);
    qm_put_noise(w->out, w->image->name, w->shape.setup_bytes);
    if (strncmp(w->image->vendor, "Dell", 4) == 0)
        for (unsigned i = 1; i <= 2; i++) { /* PCR 6 is the vendor's: service tag and asset data */
            snprintf(name, sizeof name, "Dell Configuration Information %u", i);
            qm_gen_plan_event(w->plan, 6, EV_COMPACT_HASH, DEVICES);
            qm_out_text(w->out, name);
            machine_digest(w);
        }
}

static void option_roms(struct writer *w)
{
    for (unsigned i = 0; i < w->image->option_roms; i++) {
        struct qm_gen_event *e =
            qm_gen_plan_event(w->plan, 2, EV_EFI_BOOT_SERVICES_DRIVER, DEVICES);
        e->target = i == 0 ? QM_TARGET_OPTION_ROM : QM_TARGET_NONE;
        /* UEFI_IMAGE_LOAD_EVENT: profile, 10.2.3 */
        qm_put_le(w->out, 0x585c7018 - 0x90000ull * i, 8);
        qm_put_le(w->out, 0x221a0 + 0x8000ull * (i / 2), 8);
        qm_put_le(w->out, 0, 8);
        qm_put_le(w->out, 18 + 24 + 4, 8);
        qm_put_path_pci(w->out, (uint8_t)(1 + i / 2), (uint8_t)(i % 2));
        qm_put_path_range(w->out, 0x600, 0xff53);
        qm_put_path_end(w->out);
        qm_gen_plan_label(w->plan, "option ROM %u of %s", i / 2, w->image->vendor);
    }
}

static void disk_path(struct writer *w)
{
    if (w->image->vendor[0] == '\0')
        qm_put_path_scsi(w->out, 1);
    else if (w->image->option_roms > 3)
        qm_put_path_nvme(w->out);
    else
        qm_put_path_sata(w->out, 0);
}

enum { ESP_FIRST_LBA = 2048, ESP_BLOCKS = 1048576 };

/* HD(1,GPT,the machine's ESP)/path */
static void esp_path(struct writer *w, const char *path)
{
    qm_gen_plan_patch(w->plan, QM_PATCH_ESP_GUID, QM_PATH_HD_GUID_AT);
    qm_put_path_hd(w->out, ESP_FIRST_LBA, ESP_BLOCKS);
    qm_put_path_file(w->out, path);
    qm_put_path_end(w->out);
}

/* A Boot#### variable with an EFI_LOAD_OPTION (UEFI 2.10, 3.1.3). kind 0: the system, 1: the disk,
 * 2: the network, 3: an application of the firmware. Measured is the whole UEFI_VARIABLE_DATA by
 * EV_EFI_VARIABLE_BOOT2, its VariableData alone by EV_EFI_VARIABLE_BOOT, as edk2 does. */
static void boot_variable(struct writer *w, unsigned number, const char *name, unsigned kind,
                          uint8_t priority)
{
    const struct qm_gen_image *im = w->image;
    char variable[16], path[64];
    snprintf(variable, sizeof variable, "Boot%04X", number);
    snprintf(path, sizeof path, "\\EFI\\%s\\shimx64.efi", im->efi_dir);
    size_t disk = im->vendor[0] == '\0' ? 8 : im->option_roms > 3 ? 16 : 10;
    size_t path_len = (kind == 0   ? 42 + 4 + 2 * (strlen(path) + 1)
                       : kind == 1 ? 18 + disk
                       : kind == 2 ? 18 + 37
                                   : 40) +
                      4;
    struct qm_gen_event *e = qm_gen_plan_event(
        w->plan, 1, im->boot2 ? EV_EFI_VARIABLE_BOOT2 : EV_EFI_VARIABLE_BOOT, priority);
    qm_put_variable(w->out, QM_GUID_GLOBAL, variable, 6 + 2 * (strlen(name) + 1) + path_len);
    e->hash_skip = im->boot2 ? 0 : (uint16_t)(w->out->len - e->data_at);
    qm_put_le(w->out, kind == 3 ? 0x109 : 1, 4); /* LOAD_OPTION_ACTIVE; of category APP, hidden */
    qm_put_le(w->out, path_len, 2);
    qm_put_utf16(w->out, name);
    qm_put_le(w->out, 0, 2);
    if (kind == 0) {
        esp_path(w, path);
        return;
    }
    if (kind == 3) {
        qm_put_path_fv(w->out, "7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1",
                       "462caa21-7614-4503-836e-8ab6f4662331");
    } else {
        qm_put_path_pci(w->out, kind == 1 ? 3 : 4, 0);
        if (kind == 1) {
            disk_path(w);
        } else {
            qm_gen_plan_patch(w->plan, QM_PATCH_MAC, QM_PATH_MAC_AT);
            qm_put_path_mac(w->out);
        }
    }
    qm_put_path_end(w->out);
}

static void boot_options(struct writer *w)
{
    const struct qm_gen_image *im = w->image;
    unsigned more = im->vendor[0] != '\0' ? 3 : 1;
    struct qm_gen_event *e = qm_gen_plan_event(
        w->plan, 1, im->boot2 ? EV_EFI_VARIABLE_BOOT2 : EV_EFI_VARIABLE_BOOT, BOOT);
    qm_put_variable(w->out, QM_GUID_GLOBAL, "BootOrder", 2ull * (2 + more));
    e->hash_skip = im->boot2 ? 0 : (uint16_t)(w->out->len - e->data_at);
    for (unsigned i = 0; i < 2 + more; i++)
        qm_put_le(w->out, i == 0 ? 1 : i == 1 ? 0 : i, 2);
    boot_variable(w, 1, im->distro, 0, BOOT);
    boot_variable(w, 0, "UiApp", 3, DEVICES);
    boot_variable(w, 2, im->vendor[0] == '\0' ? "UEFI PersistentDisk" : "UEFI Hard Drive", 1,
                  DEVICES);
    for (unsigned i = 3; i < 2 + more; i++)
        boot_variable(w, i, i == 3 ? "UEFI PXEv4" : "UEFI HTTPv4", 2, DEVICES);
}

/* --- PCR 4 and 5: what is booted, and from where; PCR 14: shim's own lists --- */

static void gpt(struct writer *w)
{
    static const struct qm_gpt_partition partitions[] = {
        {"c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "EFI System Partition", ESP_FIRST_LBA,
         ESP_FIRST_LBA + ESP_BLOCKS - 1},
        {"bc13c2ff-59e6-4262-a352-b275fd6f7172", "boot", 1050624, 3147775},
        {"4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "root", 3147776, 209713151},
    };
    static const enum qm_gen_patch_kind guids[] = {QM_PATCH_ESP_GUID, QM_PATCH_BOOT_GUID,
                                                   QM_PATCH_ROOT_GUID};
    qm_gen_plan_event(w->plan, 5, EV_EFI_GPT_EVENT, CORE);
    qm_gen_plan_patch(w->plan, QM_PATCH_DISK_GUID, QM_GPT_DISK_GUID_AT);
    for (size_t i = 0; i < QM_COUNT(partitions); i++)
        qm_gen_plan_patch(w->plan, guids[i],
                          QM_GPT_ENTRIES_AT + QM_GPT_ENTRY_LEN * i + QM_GPT_ENTRY_GUID_AT);
    qm_gen_plan_patch(w->plan, QM_PATCH_GPT_ARRAY_CRC, QM_GPT_ARRAY_CRC_AT);
    qm_gen_plan_patch(w->plan, QM_PATCH_GPT_CRC, QM_GPT_CRC_AT);
    qm_put_gpt(w->out, 209715200, partitions, QM_COUNT(partitions));
}

static void authority(struct writer *w, const char *guid, const char *name, const char *subject,
                      bool owner, uint8_t priority)
{
    uint8_t cert[QM_CERT_MAX];
    size_t len = qm_cert_make(cert, subject, subject, w->shape.detail == 0 ? 2048 : 1024);
    qm_gen_plan_event(w->plan, 7, EV_EFI_VARIABLE_AUTHORITY, priority);
    qm_put_variable(w->out, guid, name, len + (owner ? 16 : 0));
    if (owner)
        qm_put_guid(w->out, qm_guid_of("77fa9abd-0359-4d32-bd60-28f4e78f784b"));
    qm_out_bytes(w->out, cert, len);
}

/* An application that the firmware (or shim for it) loaded. esp: with the whole path, which names
 * the machine's ESP; the digest is the file's Authenticode hash, so PCR 4 does not know the
 * machine. path NULL: loaded from memory. */
static struct qm_gen_event *application(struct writer *w, const char *path, bool esp, uint64_t len)
{
    struct qm_gen_event *e = qm_gen_plan_event(w->plan, 4, EV_EFI_BOOT_SERVICES_APPLICATION, CORE);
    qm_put_le(w->out, 0x7d225018 - (len & ~0xfffull), 8);
    qm_put_le(w->out, len, 8);
    qm_put_le(w->out, 0, 8);
    size_t file = path != NULL ? 4 + 2 * (strlen(path) + 1) + 4 : 0;
    size_t disk = w->image->vendor[0] == '\0' ? 8 : w->image->option_roms > 3 ? 16 : 10;
    qm_put_le(w->out, file + (esp ? 18 + disk + 42 : 0), 8);
    if (esp) {
        qm_put_path_pci(w->out, 3, 0);
        disk_path(w);
        esp_path(w, path);
    } else if (path != NULL) {
        qm_put_path_file(w->out, path);
        qm_put_path_end(w->out);
    }
    return e;
}

static void mok_list(struct writer *w, const char *name)
{
    qm_gen_plan_event(w->plan, 14, EV_IPL, TRUST);
    qm_out_bytes(w->out, name, strlen(name) + 1);
    qm_gen_plan_label(w->plan, "%s of %s", name, w->image->distro);
}

static void shim(struct writer *w)
{
    static const char sbat[] = "sbat,1,2023012900\nshim,2\ngrub,3\ngrub.debian,4\n";
    const struct qm_gen_image *im = w->image;
    char path[64], vendor[64];
    if (im->secure_boot)
        authority(w, QM_GUID_SECURITY, "db", CERT_UEFI_CA, true, TRUST);
    snprintf(path, sizeof path, "\\EFI\\%s\\shimx64.efi", im->efi_dir);
    application(w, path, true, 959848);
    qm_gen_plan_label(w->plan, "shim 15.8 of %s", im->distro);
    mok_list(w, "MokList");
    mok_list(w, "MokListX");
    qm_gen_plan_event(w->plan, 7, EV_EFI_VARIABLE_AUTHORITY, TRUST);
    qm_put_variable(w->out, QM_GUID_SHIM, "SbatLevel", sizeof sbat - 1);
    qm_out_text(w->out, sbat);
    mok_list(w, "MokListTrusted");
    snprintf(vendor, sizeof vendor, "%s Secure Boot CA (synthetic)", im->distro);
    if (im->secure_boot)
        authority(w, im->rhel ? QM_GUID_SECURITY : QM_GUID_SHIM, im->rhel ? "vendor_db" : "Shim",
                  vendor, im->rhel, TRUST);
    snprintf(path, sizeof path, "\\EFI\\%s\\grubx64.efi", im->efi_dir);
    application(w, path, false, 2541176)->target = QM_TARGET_BOOT_LOADER;
    qm_gen_plan_label(w->plan, "grub 2.06 of %s", im->distro);
}

/* --- PCR 8 and 9: grub --- */

/* @D grub's directory, @K the kernel, @U the root file system's UUID, @R the root arguments, @N the
 * distribution. */
static void expand(struct writer *w, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text != '@') {
            qm_out_char(w->out, *text);
            continue;
        }
        switch (*++text) {
        case 'D':
            qm_out_text(w->out, w->image->grub_dir);
            break;
        case 'K':
            qm_out_text(w->out, w->kernel);
            break;
        case 'N':
            qm_out_text(w->out, w->image->distro);
            break;
        case 'R':
            expand(w, w->image->root);
            break;
        default:
            if (!w->image->grouped)
                qm_gen_plan_patch(w->plan, QM_PATCH_ROOT_UUID, 0);
            qm_out_text(w->out, w->image->root_uuid);
        }
    }
}

/* grub measures the command without the event text's prefix and, but for RHEL 8's older patch,
 * without the NUL that ends it. */
static struct qm_gen_event *grub_text(struct writer *w, const char *prefix, const char *text,
                                      bool with_nul, uint8_t priority)
{
    struct qm_gen_event *e = qm_gen_plan_event(w->plan, 8, EV_IPL, priority);
    qm_out_text(w->out, prefix);
    expand(w, text);
    qm_out_bytes(w->out, "", 1);
    e->hash_skip = (uint16_t)strlen(prefix);
    e->hash_cut = with_nul ? 0 : 1;
    return e;
}

static void grub_command(struct writer *w, const char *text, uint8_t priority)
{
    bool old = w->image->old_grub;
    (void)grub_text(w, old ? "grub_cmd " : "grub_cmd: ", text, old, priority);
}

/* A file that grub read: named, and measured by its content. of_kernel: it changes with the kernel.
 */
static struct qm_gen_event *grub_file(struct writer *w, const char *name, bool of_kernel,
                                      uint8_t priority)
{
    struct qm_gen_event *e = qm_gen_plan_event(w->plan, 9, EV_IPL, priority);
    expand(w, name);
    qm_out_bytes(w->out, "", 1);
    qm_gen_plan_label(w->plan, "%s of %s, kernel %s", name, w->image->name,
                      of_kernel ? w->kernel : "any");
    return e;
}

/* First character: c a command, f a file, F a file that changes with the kernel; d, e: as c, F, and
 * the first to go. */
static const char *const debian_script[] = {
    "F@D/grub.cfg",
    "csearch.fs_uuid @U root hd0,gpt2",
    "cset prefix=@D",
    "f@D/x86_64-efi/command.lst",
    "f@D/x86_64-efi/fs.lst",
    "f@D/x86_64-efi/crypto.lst",
    "f@D/x86_64-efi/terminal.lst",
    "cconfigfile @D/grub.cfg",
    "c[ -s @D/grubenv ]",
    "f@D/grubenv",
    "cset have_grubenv=true",
    "cload_env",
    "c[  = 2 ]",
    "c[  ]",
    "cset default=0",
    "c[ xy = xy ]",
    "cmenuentry_id_option=--id",
    "cexport menuentry_id_option",
    "cset gfxmode=auto",
    "cload_video",
    "cinsmod all_video",
    "cinsmod gfxterm",
    "cset locale_dir=@D/locale",
    "cset lang=en_US",
    "cinsmod gettext",
    "cterminal_output gfxterm",
    "cset timeout_style=hidden",
    "cset timeout=0",
    "dmenuentry @N --class @N --class gnu-linux --class gnu --class os --id gnulinux-simple-@U "
    "{\n\t\tload_video\n\t\tinsmod gzio\n"
    "\t\tinsmod part_gpt\n\t\tinsmod ext2\n\t\tlinux\t/boot/vmlinuz-@K @R " QM_GEN_PHRASE
    "\n\t\tinitrd\t/boot/initrd.img-@K\n}",
    "csetparams @N",
    "cinsmod gzio",
    "cinsmod part_gpt",
    "cinsmod ext2",
    "cset root=hd0,gpt2",
    "csearch --no-floppy --fs-uuid --set=root @U",
    "cecho Loading Linux @K ...",
};

static const char *const rhel_script[] = {
    "f(hd0,gpt1)/EFI/@N/grub.cfg",
    "csearch --no-floppy --fs-uuid --set=dev @U",
    "cset prefix=@D",
    "cexport @D",
    "cconfigfile @D/grub.cfg",
    "f@D/grub.cfg",
    "cset pager=1",
    "c[ -f @D/grubenv ]",
    "cload_env -f @D/grubenv",
    "F@D/grubenv",
    "c[  ]",
    "cset default=c8f6a97f9de34bc6af4eaeaf59a46d52-@K",
    "c[ xy = xy ]",
    "cmenuentry_id_option=--id",
    "cexport menuentry_id_option",
    "cserial --speed=115200",
    "cterminal_input serial console",
    "cterminal_output serial console",
    "cset timeout_style=menu",
    "cset timeout=5",
    "c[ -f @D/user.cfg ]",
    "cinsmod increment",
    "cinsmod part_gpt",
    "cinsmod xfs",
    "csearch --no-floppy --fs-uuid --set=root @U",
    "cinsmod fat",
    "csearch --no-floppy --fs-uuid --set=boot 338A-9F53",
    "dset kernelopts=@R",
    "cinsmod blscfg",
    "cblscfg",
    "e(hd0,gpt2)/loader/entries//c8f6a97f9de34bc6af4eaeaf59a46d52-@K.conf",
    "c[ 1 = 1 -o  = 1 ]",
    "cset menu_hide_ok=1",
    "cset boot_indeterminate=0",
    "cset boot_success=0",
    "csave_env boot_success boot_indeterminate",
    "c[ efi = efi ]",
    "c[ -f @D/custom.cfg ]",
    "cload_video",
    "cinsmod all_video",
    "cset gfxpayload=keep",
    "cinsmod gzio",
};

/* What fills a log up to the asked number of events: modules, a command and a file in turn. */
static void grub_filler(struct writer *w, size_t i)
{
    static const char *const modules[] = {
        "lvm",         "mdraid1x", "luks2",  "cryptodisk", "btrfs",    "zstd",   "lzopio",  "xzio",
        "gcry_sha512", "pbkdf2",   "regexp", "test",       "font",     "bitmap", "png",     "tpm",
        "http",        "tftp",     "efinet", "diskfilter", "raid6rec", "ntfs",   "iso9660", "bli"};
    char name[64], text[96];
    size_t n = i / 2;
    if (n < QM_COUNT(modules))
        snprintf(name, sizeof name, "%s", modules[n]);
    else
        snprintf(name, sizeof name, "site%zu", n - QM_COUNT(modules));
    if (i % 2 == 0) {
        snprintf(text, sizeof text, "insmod %s", name);
        grub_command(w, text, DETAIL);
    } else {
        snprintf(text, sizeof text, "@D/x86_64-efi/%s.mod", name);
        (void)grub_file(w, text, false, DETAIL);
    }
}

/* The kernel: in PCR 4 as shim verified it, in PCR 9 as grub read it, in PCR 8 by its command line.
 */
static void grub_kernel(struct writer *w)
{
    const struct qm_gen_image *im = w->image;
    const char *args =
        im->rhel ? "(hd0,gpt2)/vmlinuz-@K @R " QM_GEN_PHRASE : "/boot/vmlinuz-@K @R " QM_GEN_PHRASE;
    char command[160];
    snprintf(command, sizeof command, "linux %s", args);
    grub_command(w, command, LOADER);
    struct qm_gen_event *e = grub_file(w,
                                       im->old_grub ? "grub_linuxefi Kernel"
                                       : im->rhel   ? "(hd0,gpt2)/vmlinuz-@K"
                                                    : "/boot/vmlinuz-@K",
                                       true, CORE);
    (void)application(w, NULL, false, 14456184);
    qm_gen_plan_label(w->plan, "kernel %s of %s", w->kernel, im->distro);
    e = grub_text(w, im->old_grub ? "grub_kernel_cmdline " : "kernel_cmdline: ", args, false, CORE);
    e->target = QM_TARGET_CMDLINE;
    e->target_at =
        (uint32_t)(w->out->len - e->data_at - sizeof QM_GEN_PHRASE); /* it and the NUL stand last */
    grub_command(w, im->rhel ? "initrd (hd0,gpt2)/initramfs-@K.img" : "initrd /boot/initrd.img-@K",
                 LOADER);
    e = grub_file(w,
                  im->old_grub ? "grub_linuxefi Initrd"
                  : im->rhel   ? "(hd0,gpt2)/initramfs-@K.img"
                               : "/boot/initrd.img-@K",
                  true, CORE);
    e->target = QM_TARGET_INITRD;
}

static void grub(struct writer *w)
{
    const char *const *script = w->image->rhel ? rhel_script : debian_script;
    size_t count = w->image->rhel ? QM_COUNT(rhel_script) : QM_COUNT(debian_script);
    for (size_t i = 0; i < count; i++) {
        const char *text = script[i] + 1;
        char what = script[i][0];
        if (what == 'c' || what == 'd')
            grub_command(w, text, what == 'c' ? SCRIPT : DETAIL);
        else
            (void)grub_file(w, text, what != 'f', what != 'e' ? SCRIPT : DETAIL);
    }
    for (size_t i = 0; i < w->shape.filler; i++)
        grub_filler(w, i);
    grub_kernel(w);
}

static void write_plan(struct writer *w)
{
    qm_gen_plan_reset(w->plan);
    w->salt = 0;
    firmware_start(w);
    secure_boot(w);
    post_codes(w);
    option_roms(w);
    platform_config(w);
    boot_options(w);
    action(w, 4, "Calling EFI Application from Boot Option", BOOT);
    for (uint32_t pcr = 0; pcr < 7; pcr++)
        separator(w, pcr);
    gpt(w);
    shim(w);
    grub(w);
    action(w, 5, "Exit Boot Services Invocation", LOADER);
    action(w, 5, "Exit Boot Services Returned with Success", LOADER);
}

qm_err qm_gen_image_template(size_t i, bool updated, size_t events, size_t log_bytes,
                             struct qm_gen_hasher *h, struct qm_gen_template *out,
                             struct qm_fault *fault)
{
    enum { DBX_ENTRY = 48 };
    const struct qm_gen_image *im = &images[i];
    struct qm_gen_plan plan;
    qm_err err = qm_gen_plan_open(&plan, h, fault);
    *out = (struct qm_gen_template){0};
    if (err != QM_OK)
        return err;
    if (events == 0)
        events = im->events;
    if (log_bytes == 0)
        log_bytes = im->log_bytes;
    struct writer w = {
        .image = im, .kernel = im->kernel[updated], .plan = &plan, .out = &plan.data};
    size_t size = 0;
    for (w.shape = (struct shape){.dbx_entries = 1}; w.shape.detail <= 2; w.shape.detail++) {
        w.shape.filler = 0;
        write_plan(&w);
        if (plan.count + 1 < events) {
            w.shape.filler = events - (plan.count + 1);
            write_plan(&w);
        }
        qm_gen_plan_trim(&plan, events);
        size = qm_gen_plan_size(&plan);
        if (size <= log_bytes || w.shape.detail == 2)
            break;
    }
    if (size < log_bytes) {
        w.shape.dbx_entries += (log_bytes - size) / DBX_ENTRY;
        w.shape.setup_bytes = (log_bytes - size) % DBX_ENTRY;
        write_plan(&w);
        qm_gen_plan_trim(&plan, events);
    }
    err = qm_gen_template_make(out, &plan, im->locality, fault);
    qm_gen_plan_close(&plan);
    return err;
}
