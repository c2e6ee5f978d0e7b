/* Device paths as text (UEFI 2.10, 10.3 and 10.6). Most nodes are a row of the table below: their
 * fields in order, by a small format; the others have a function. A node that is shorter than its
 * row asks for, or unknown, is written in the generic form Path(type,subtype,data). */
#include "codec/uefi.h"

enum {
    NODE_HEAD = 4,
    HARDWARE = 1,
    ACPI = 2,
    MESSAGING = 3,
    MEDIA = 4,
    BIOS_BOOT = 5,
    END = 0x7f,
    MEDIA_FILE_PATH = 4,
};

static void write_pci(struct qm_out *o, struct qm_cur *c)
{
    uint8_t function = qm_cur_u8(c);
    qm_out_text(o, "Pci(");
    qm_out_0x(o, qm_cur_u8(c));
    qm_out_char(o, ',');
    qm_out_0x(o, function);
    qm_out_char(o, ')');
}

/* A compressed EISA id: "PNP0A03" is 0x0a0341d0. */
static void write_eisa(struct qm_out *o, uint32_t hid)
{
    char id[7];
    if ((hid & 0xffff) != 0x41d0) {
        qm_out_0x(o, hid);
        return;
    }
    memcpy(id, "PNP", 3);
    for (int i = 0; i < 4; i++)
        id[3 + i] = "0123456789ABCDEF"[hid >> (28 - 4 * i) & 15];
    qm_out_bytes(o, id, sizeof id);
}

static void write_acpi(struct qm_out *o, struct qm_cur *c)
{
    static const struct {
        uint32_t hid;
        const char *name;
    } known[] = {{0x0a0341d0, "PciRoot("}, {0x0a0841d0, "PcieRoot("},
                 {0x060441d0, "Floppy("},  {0x030141d0, "Keyboard("},
                 {0x050141d0, "Serial("},  {0x040141d0, "ParallelPort("}};
    uint32_t hid = qm_cur_le32(c);
    uint32_t uid = qm_cur_le32(c);
    const char *name = NULL;
    for (size_t i = 0; i < QM_COUNT(known); i++)
        if (known[i].hid == hid)
            name = known[i].name;
    qm_out_text(o, name != NULL ? name : "Acpi(");
    if (name == NULL) {
        write_eisa(o, hid);
        qm_out_char(o, ',');
    }
    qm_out_0x(o, uid);
    qm_out_char(o, ')');
}

/* Bytes up to a NUL or the end. */
static void write_string(struct qm_out *o, struct qm_cur *c)
{
    size_t len = strnlen((const char *)c->p, qm_cur_left(c));
    qm_out_bytes(o, c->p, len);
    qm_cur_take(c, len < qm_cur_left(c) ? len + 1 : len);
}

static void write_acpi_expanded(struct qm_out *o, struct qm_cur *c)
{
    uint32_t hid = qm_cur_le32(c);
    uint32_t uid = qm_cur_le32(c);
    uint32_t cid = qm_cur_le32(c);
    qm_out_text(o, "AcpiEx(");
    write_eisa(o, hid);
    qm_out_char(o, ',');
    write_eisa(o, cid);
    qm_out_char(o, ',');
    qm_out_0x(o, uid);
    for (int i = 0; i < 3; i++) { /* HID, UID, CID as strings */
        qm_out_char(o, ',');
        write_string(o, c);
    }
    qm_out_char(o, ')');
}

static void write_acpi_adr(struct qm_out *o, struct qm_cur *c)
{
    qm_out_text(o, "AcpiAdr(");
    for (bool first = true; qm_cur_left(c) >= 4; first = false) {
        if (!first)
            qm_out_char(o, ',');
        qm_out_0x(o, qm_cur_le32(c));
    }
    qm_out_char(o, ')');
}

static void write_ata(struct qm_out *o, struct qm_cur *c)
{
    qm_out_text(o, qm_cur_u8(c) == 0 ? "Ata(Primary," : "Ata(Secondary,");
    qm_out_text(o, qm_cur_u8(c) == 0 ? "Master," : "Slave,");
    qm_out_0x(o, qm_cur_le16(c));
    qm_out_char(o, ')');
}

static void write_mac(struct qm_out *o, struct qm_cur *c)
{
    struct qm_span mac = qm_cur_span(c, 32);
    uint8_t kind = qm_cur_u8(c);
    qm_out_text(o, "MAC(");
    qm_out_hex(o, mac.p, kind <= 1 ? 6 : mac.len); /* IfType 0 and 1: Ethernet */
    qm_out_char(o, ',');
    qm_out_0x(o, kind);
    qm_out_char(o, ')');
}

static void write_ipv4_address(struct qm_out *o, const uint8_t *p)
{
    for (int i = 0; i < 4; i++) {
        if (i != 0)
            qm_out_char(o, '.');
        qm_out_u64(o, p[i]);
    }
}

static void write_ipv6_address(struct qm_out *o, const uint8_t *p)
{
    for (int i = 0; i < 16; i += 2) {
        if (i != 0)
            qm_out_char(o, ':');
        qm_out_hex(o, p + i, 2);
    }
}

static void write_protocol(struct qm_out *o, uint16_t protocol)
{
    if (protocol == 6 || protocol == 17)
        qm_out_text(o, protocol == 6 ? "TCP" : "UDP");
    else
        qm_out_0x(o, protocol);
}

static void write_ipv4(struct qm_out *o, struct qm_cur *c)
{
    const uint8_t *local = qm_cur_take(c, 4);
    const uint8_t *remote = qm_cur_take(c, 4);
    qm_cur_take(c, 4); /* ports */
    uint16_t protocol = qm_cur_le16(c);
    bool fixed = qm_cur_u8(c) != 0;
    qm_out_text(o, "IPv4(");
    write_ipv4_address(o, remote);
    qm_out_char(o, ',');
    write_protocol(o, protocol);
    qm_out_text(o, fixed ? ",Static," : ",DHCP,");
    write_ipv4_address(o, local);
    while (qm_cur_left(c) >= 4) { /* gateway, mask: absent in old firmware */
        qm_out_char(o, ',');
        write_ipv4_address(o, qm_cur_take(c, 4));
    }
    qm_out_char(o, ')');
}

static void write_ipv6(struct qm_out *o, struct qm_cur *c)
{
    static const char *const origins[] = {",Static,", ",StatelessAutoConfigure,",
                                          ",StatefulAutoConfigure,"};
    const uint8_t *local = qm_cur_take(c, 16);
    const uint8_t *remote = qm_cur_take(c, 16);
    qm_cur_take(c, 4); /* ports */
    uint16_t protocol = qm_cur_le16(c);
    uint8_t origin = qm_cur_u8(c);
    qm_out_text(o, "IPv6(");
    write_ipv6_address(o, remote);
    qm_out_char(o, ',');
    write_protocol(o, protocol);
    qm_out_text(o, origin < QM_COUNT(origins) ? origins[origin] : ",?,");
    write_ipv6_address(o, local);
    if (qm_cur_left(c) >= 1 + 16) { /* prefix length, gateway */
        uint8_t prefix = qm_cur_u8(c);
        qm_out_char(o, '/');
        qm_out_u64(o, prefix);
        qm_out_char(o, ',');
        write_ipv6_address(o, qm_cur_take(c, 16));
    }
    qm_out_char(o, ')');
}

static void write_uart(struct qm_out *o, struct qm_cur *c)
{
    qm_cur_take(c, 4);
    qm_out_text(o, "Uart(");
    qm_out_u64(o, qm_cur_le64(c));
    qm_out_char(o, ',');
    qm_out_u64(o, qm_cur_u8(c));
    qm_out_char(o, ',');
    uint8_t parity = qm_cur_u8(c);
    qm_out_char(o, parity < 6 ? "DNEOMS"[parity] : '?');
    qm_out_char(o, ',');
    uint8_t stop = qm_cur_u8(c);
    qm_out_text(o, stop == 0 ? "D" : stop == 1 ? "1" : stop == 2 ? "1.5" : stop == 3 ? "2" : "?");
    qm_out_char(o, ')');
}

static void write_usb_wwid(struct qm_out *o, struct qm_cur *c)
{
    qm_out_text(o, "UsbWwid(");
    uint16_t interface = qm_cur_le16(c);
    qm_out_0x(o, qm_cur_le16(c));
    qm_out_char(o, ',');
    qm_out_0x(o, qm_cur_le16(c));
    qm_out_char(o, ',');
    qm_out_0x(o, interface);
    qm_out_char(o, ',');
    qm_ucs2_write(o, qm_cur_span(c, qm_cur_left(c)));
    qm_out_char(o, ')');
}

/* The EUI-64 is shown from its last byte to its first, as firmware shows it. */
static void write_nvme(struct qm_out *o, struct qm_cur *c)
{
    qm_out_text(o, "NVMe(");
    qm_out_0x(o, qm_cur_le32(c));
    const uint8_t *eui = qm_cur_take(c, 8);
    for (int i = 7; i >= 0; i--) {
        qm_out_char(o, i == 7 ? ',' : '-');
        qm_out_hex(o, eui + i, 1);
    }
    qm_out_char(o, ')');
}

static void write_wifi(struct qm_out *o, struct qm_cur *c)
{
    qm_out_text(o, "Wi-Fi(");
    write_string(o, c);
    qm_out_char(o, ')');
}

static void write_dns(struct qm_out *o, struct qm_cur *c)
{
    bool v6 = qm_cur_u8(c) != 0;
    qm_out_text(o, "Dns(");
    for (bool first = true; qm_cur_left(c) >= 16;
         first = false) { /* EFI_IP_ADDRESS is 16 bytes for both */
        if (!first)
            qm_out_char(o, ',');
        const uint8_t *address = qm_cur_take(c, 16);
        if (v6)
            write_ipv6_address(o, address);
        else
            write_ipv4_address(o, address);
    }
    qm_out_char(o, ')');
}

static void write_hard_drive(struct qm_out *o, struct qm_cur *c)
{
    enum { MBR_SIGNATURE = 1, GUID_SIGNATURE = 2 };
    uint32_t number = qm_cur_le32(c);
    uint64_t start = qm_cur_le64(c);
    uint64_t size = qm_cur_le64(c);
    const uint8_t *signature = qm_cur_take(c, 16);
    qm_cur_u8(c); /* format: the signature's type says the same */
    uint8_t kind = qm_cur_u8(c);
    qm_out_text(o, "HD(");
    qm_out_u64(o, number);
    if (kind == GUID_SIGNATURE) {
        qm_out_text(o, ",GPT,");
        qm_guid_write(o, signature);
    } else if (kind == MBR_SIGNATURE) {
        qm_out_text(o, ",MBR,");
        qm_out_0x(o, qm_load_le32(signature));
    } else {
        qm_out_char(o, ',');
        qm_out_u64(o, kind);
        qm_out_text(o, ",0");
    }
    qm_out_char(o, ',');
    qm_out_0x(o, start);
    qm_out_char(o, ',');
    qm_out_0x(o, size);
    qm_out_char(o, ')');
}

static void write_file_path(struct qm_out *o, struct qm_cur *c)
{
    qm_ucs2_write(o, qm_cur_span(c, qm_cur_left(c)));
}

static void write_bbs(struct qm_out *o, struct qm_cur *c)
{
    static const char *const types[] = {"?", "Floppy", "HD", "CDROM", "PCMCIA", "USB", "Network"};
    uint16_t type = qm_cur_le16(c);
    uint16_t flags = qm_cur_le16(c);
    qm_out_text(o, "BBS(");
    if (type != 0 && type < QM_COUNT(types))
        qm_out_text(o, types[type]);
    else
        qm_out_0x(o, type);
    qm_out_char(o, ',');
    write_string(o, c);
    qm_out_char(o, ',');
    qm_out_0x(o, flags);
    qm_out_char(o, ')');
}

/* Formats: %1 %2 %4 %8 an integer of that many bytes, %g a GUID, %x eight bytes as they stand, %m
 * six, %- four bytes skipped, %s the rest as a string, %h ",hex" of the rest where there is any.
 * min: bytes of the node's body that the format takes. */
static const struct node {
    uint8_t type, subtype, min;
    const char *format;
    void (*write)(struct qm_out *, struct qm_cur *);
} nodes[] = {
    {HARDWARE, 1, 2, NULL, write_pci},
    {HARDWARE, 2, 1, "PcCard(%1)", NULL},
    {HARDWARE, 3, 20, "MemoryMapped(%4,%8,%8)", NULL},
    {HARDWARE, 4, 16, "VenHw(%g%h)", NULL},
    {HARDWARE, 5, 4, "Ctrl(%4)", NULL},
    {HARDWARE, 6, 9, "BMC(%1,%8)", NULL},
    {ACPI, 1, 8, NULL, write_acpi},
    {ACPI, 2, 12, NULL, write_acpi_expanded},
    {ACPI, 3, 4, NULL, write_acpi_adr},
    {ACPI, 4, 4, "NvdimmAcpiAdr(%4)", NULL},
    {MESSAGING, 1, 4, NULL, write_ata},
    {MESSAGING, 2, 4, "Scsi(%2,%2)", NULL},
    {MESSAGING, 3, 20, "Fibre(%-%8,%8)", NULL},
    {MESSAGING, 4, 12, "I1394(%-%8)", NULL},
    {MESSAGING, 5, 2, "USB(%1,%1)", NULL},
    {MESSAGING, 6, 4, "I2O(%4)", NULL},
    {MESSAGING, 9, 44, "Infiniband(%4,%g,%8,%8,%8)", NULL},
    {MESSAGING, 10, 16, "VenMsg(%g%h)", NULL},
    {MESSAGING, 11, 33, NULL, write_mac},
    {MESSAGING, 12, 15, NULL, write_ipv4},
    {MESSAGING, 13, 39, NULL, write_ipv6},
    {MESSAGING, 14, 15, NULL, write_uart},
    {MESSAGING, 15, 7, "UsbClass(%2,%2,%1,%1,%1)", NULL},
    {MESSAGING, 16, 6, NULL, write_usb_wwid},
    {MESSAGING, 17, 1, "Unit(%1)", NULL},
    {MESSAGING, 18, 6, "Sata(%2,%2,%2)", NULL},
    {MESSAGING, 19, 14, "iSCSI(%2,%2,%x,%2,%s)", NULL},
    {MESSAGING, 20, 2, "Vlan(%2)", NULL},
    {MESSAGING, 21, 20, "FibreEx(%-%x,%x)", NULL},
    {MESSAGING, 22, 20, "SasEx(%x,%x,%2,%2)", NULL},
    {MESSAGING, 23, 12, NULL, write_nvme},
    {MESSAGING, 24, 0, "Uri(%s)", NULL},
    {MESSAGING, 25, 2, "UFS(%1,%1)", NULL},
    {MESSAGING, 26, 1, "SD(%1)", NULL},
    {MESSAGING, 27, 6, "Bluetooth(%m)", NULL},
    {MESSAGING, 28, 1, NULL, write_wifi},
    {MESSAGING, 29, 1, "eMMC(%1)", NULL},
    {MESSAGING, 30, 7, "BluetoothLE(%m,%1)", NULL},
    {MESSAGING, 31, 1, NULL, write_dns},
    {MESSAGING, 32, 16, "NVDIMM(%g)", NULL},
    {MESSAGING, 33, 2, "RestService(%1,%1%h)", NULL},
    {MEDIA, 1, 38, NULL, write_hard_drive},
    {MEDIA, 2, 20, "CDROM(%4,%8,%8)", NULL},
    {MEDIA, 3, 16, "VenMedia(%g%h)", NULL},
    {MEDIA, MEDIA_FILE_PATH, 0, NULL, write_file_path},
    {MEDIA, 5, 16, "Media(%g)", NULL},
    {MEDIA, 6, 16, "FvFile(%g)", NULL},
    {MEDIA, 7, 16, "Fv(%g)", NULL},
    {MEDIA, 8, 20, "Offset(%-%8,%8)", NULL},
    {MEDIA, 9, 34, "RamDisk(%8,%8,%g,%2)", NULL},
    {BIOS_BOOT, 1, 4, NULL, write_bbs},
};

static void write_field(struct qm_out *o, char code, struct qm_cur *c)
{
    switch (code) {
    case '1':
        qm_out_0x(o, qm_cur_u8(c));
        break;
    case '2':
        qm_out_0x(o, qm_cur_le16(c));
        break;
    case '4':
        qm_out_0x(o, qm_cur_le32(c));
        break;
    case '8':
        qm_out_0x(o, qm_cur_le64(c));
        break;
    case 'g':
        qm_guid_write(o, qm_cur_take(c, QM_GUID_SIZE));
        break;
    case 'x':
        qm_out_text(o, "0x");
        qm_out_hex(o, qm_cur_take(c, 8), 8);
        break;
    case 'm':
        qm_out_hex(o, qm_cur_take(c, 6), 6);
        break;
    case '-':
        qm_cur_take(c, 4);
        break;
    case 's':
        write_string(o, c);
        break;
    case 'h':
        if (qm_cur_left(c) != 0) {
            qm_out_char(o, ',');
            qm_out_hex(o, c->p, qm_cur_left(c));
        }
        break;
    }
}

static void write_node(struct qm_out *o, uint8_t type, uint8_t subtype, struct qm_cur c)
{
    const struct node *n = nodes;
    while (n != nodes + QM_COUNT(nodes) && (n->type != type || n->subtype != subtype))
        n++;
    if (n == nodes + QM_COUNT(nodes) || qm_cur_left(&c) < n->min) {
        qm_out_text(o, "Path(");
        qm_out_u64(o, type);
        qm_out_char(o, ',');
        qm_out_u64(o, subtype);
        write_field(o, 'h', &c);
        qm_out_char(o, ')');
    } else if (n->write != NULL) {
        n->write(o, &c);
    } else {
        for (const char *f = n->format; *f != '\0'; f++)
            if (*f == '%')
                write_field(o, *++f, &c);
            else
                qm_out_char(o, *f);
    }
}

bool qm_device_path_write(struct qm_out *o, struct qm_span path)
{
    struct qm_cur c = qm_cur_init(path.p, path.len);
    const char *between = "";
    while (qm_cur_left(&c) != 0 && !o->full) {
        uint8_t type = qm_cur_u8(&c);
        uint8_t subtype = qm_cur_u8(&c);
        uint16_t len = qm_cur_le16(&c);
        struct qm_cur body = qm_cur_sub(&c, len >= NODE_HEAD ? (size_t)len - NODE_HEAD : SIZE_MAX);
        if (c.bad) { /* cut short, or a length that would have us stand still */
            qm_out_text(o, "...");
            return false;
        }
        if (type == END) {
            between = ","; /* another instance, or another path of the list */
            continue;
        }
        qm_out_text(o, between);
        write_node(o, type, subtype, body);
        between = "/";
    }
    return true;
}

bool qm_device_path_file(struct qm_out *o, struct qm_span path)
{
    struct qm_cur c = qm_cur_init(path.p, path.len);
    bool found = false;
    while (qm_cur_left(&c) != 0) {
        uint8_t type = qm_cur_u8(&c);
        uint8_t subtype = qm_cur_u8(&c);
        uint16_t len = qm_cur_le16(&c);
        struct qm_span body =
            qm_cur_span(&c, len >= NODE_HEAD ? (size_t)len - NODE_HEAD : SIZE_MAX);
        if (c.bad || (type == END && found))
            break;
        if (type == MEDIA && subtype == MEDIA_FILE_PATH) {
            qm_ucs2_write(o, body);
            found = true;
        }
    }
    return found;
}
