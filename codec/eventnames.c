#include "codec/eventnames.h"

struct name {
    uint32_t id;
    const char *name;
};

/* In ascending order. PC Client Platform Firmware Profile 1.06, 10.4.1; 0x401 on: Intel TXT MLE
 * guide, appendix F. */
static const struct name type_names[] = {
    {0x00000000, "EV_PREBOOT_CERT"},
    {0x00000001, "EV_POST_CODE"},
    {0x00000002, "EV_UNUSED"},
    {0x00000003, "EV_NO_ACTION"},
    {0x00000004, "EV_SEPARATOR"},
    {0x00000005, "EV_ACTION"},
    {0x00000006, "EV_EVENT_TAG"},
    {0x00000007, "EV_S_CRTM_CONTENTS"},
    {0x00000008, "EV_S_CRTM_VERSION"},
    {0x00000009, "EV_CPU_MICROCODE"},
    {0x0000000a, "EV_PLATFORM_CONFIG_FLAGS"},
    {0x0000000b, "EV_TABLE_OF_DEVICES"},
    {0x0000000c, "EV_COMPACT_HASH"},
    {0x0000000d, "EV_IPL"},
    {0x0000000e, "EV_IPL_PARTITION_DATA"},
    {0x0000000f, "EV_NONHOST_CODE"},
    {0x00000010, "EV_NONHOST_CONFIG"},
    {0x00000011, "EV_NONHOST_INFO"},
    {0x00000012, "EV_OMIT_BOOT_DEVICE_EVENTS"},
    {0x00000013, "EV_POST_CODE2"},
    {0x00000401, "EVTYPE_PCRMAPPING"},
    {0x00000402, "EVTYPE_HASH_START"},
    {0x00000403, "EVTYPE_COMBINED_HASH"},
    {0x00000404, "EVTYPE_MLE_HASH"},
    {0x0000040a, "EVTYPE_BIOSAC_REG_DATA"},
    {0x0000040b, "EVTYPE_CPU_SCRTM_STAT"},
    {0x0000040c, "EVTYPE_LCP_CONTROL_HASH"},
    {0x0000040d, "EVTYPE_ELEMENTS_HASH"},
    {0x0000040e, "EVTYPE_STM_HASH"},
    {0x0000040f, "EVTYPE_OSSINITDATA_CAP_HASH"},
    {0x00000410, "EVTYPE_SINIT_PUBKEY_HASH"},
    {0x00000411, "EVTYPE_LCP_HASH"},
    {0x00000412, "EVTYPE_LCP_DETAILS_HASH"},
    {0x00000413, "EVTYPE_LCP_AUTHORITIES_HASH"},
    {0x00000414, "EVTYPE_NV_INFO_HASH"},
    {0x00000415, "EVTYPE_COLD_BOOT_BIOS_HASH"},
    {0x00000416, "EVTYPE_KM_HASH"},
    {0x00000417, "EVTYPE_BPM_HASH"},
    {0x00000418, "EVTYPE_KM_INFO_HASH"},
    {0x00000419, "EVTYPE_BPM_INFO_HASH"},
    {0x0000041a, "EVTYPE_BOOT_POL_HASH"},
    {0x000004fe, "EVTYPE_RANDOM_VALUE"},
    {0x000004ff, "EVTYPE_CAP_VALUE"},
    {0x80000000, "EV_EFI_EVENT_BASE"},
    {0x80000001, "EV_EFI_VARIABLE_DRIVER_CONFIG"},
    {0x80000002, "EV_EFI_VARIABLE_BOOT"},
    {0x80000003, "EV_EFI_BOOT_SERVICES_APPLICATION"},
    {0x80000004, "EV_EFI_BOOT_SERVICES_DRIVER"},
    {0x80000005, "EV_EFI_RUNTIME_SERVICES_DRIVER"},
    {0x80000006, "EV_EFI_GPT_EVENT"},
    {0x80000007, "EV_EFI_ACTION"},
    {0x80000008, "EV_EFI_PLATFORM_FIRMWARE_BLOB"},
    {0x80000009, "EV_EFI_HANDOFF_TABLES"},
    {0x8000000a, "EV_EFI_PLATFORM_FIRMWARE_BLOB2"},
    {0x8000000b, "EV_EFI_HANDOFF_TABLES2"},
    {0x8000000c, "EV_EFI_VARIABLE_BOOT2"},
    {0x8000000d, "EV_EFI_GPT_EVENT2"},
    {0x80000010, "EV_EFI_HCRTM_EVENT"},
    {0x800000e0, "EV_EFI_VARIABLE_AUTHORITY"},
    {0x800000e1, "EV_EFI_SPDM_FIRMWARE_BLOB"},
    {0x800000e2, "EV_EFI_SPDM_FIRMWARE_CONFIG"},
    {0x800000e3, "EV_EFI_SPDM_DEVICE_POLICY"},
    {0x800000e4, "EV_EFI_SPDM_DEVICE_AUTHORITY"},
};

/* In ascending order. Windows: wbcl.h of the Windows SDK; Linux: drivers/firmware/efi/libstub. */
static const struct name tag_names[] = {
    {0x00020001, "Information"},
    {0x00020002, "BootCounter"},
    {0x00020003, "TransferControl"},
    {0x00020004, "ApplicationReturn"},
    {0x00020005, "BitlockerUnlock"},
    {0x00020006, "EventCounter"},
    {0x00020007, "CounterId"},
    {0x00020008, "MorBitNotCancelable"},
    {0x00020009, "ApplicationSvn"},
    {0x0002000a, "SvnChainStatus"},
    {0x0002000b, "MorBitApiStatus"},
    {0x00040001, "BootDebugging"},
    {0x00040002, "BootRevocationList"},
    {0x00050001, "OsKernelDebug"},
    {0x00050002, "CodeIntegrity"},
    {0x00050003, "TestSigning"},
    {0x00050004, "DataExecutionPrevention"},
    {0x00050005, "SafeMode"},
    {0x00050006, "WinPE"},
    {0x00050007, "PhysicalAddressExtension"},
    {0x00050008, "OsDevice"},
    {0x00050009, "SystemRoot"},
    {0x0005000a, "HypervisorLaunchType"},
    {0x0005000b, "HypervisorPath"},
    {0x0005000c, "HypervisorIommuPolicy"},
    {0x0005000d, "HypervisorDebug"},
    {0x0005000e, "DriverLoadPolicy"},
    {0x0005000f, "SiPolicy"},
    {0x00050010, "HypervisorMmioNxPolicy"},
    {0x00050011, "HypervisorMsrFilterPolicy"},
    {0x00050012, "VsmLaunchType"},
    {0x00050013, "OsRevocationList"},
    {0x00050014, "SmtStatus"},
    {0x00050020, "VsmIdkInfo"},
    {0x00050021, "FlightSigning"},
    {0x00050022, "PagefileEncryptionEnabled"},
    {0x00050023, "VsmIdksInfo"},
    {0x00050024, "HibernationDisabled"},
    {0x00050025, "DumpsDisabled"},
    {0x00050026, "DumpEncryptionEnabled"},
    {0x00050027, "DumpEncryptionKeyDigest"},
    {0x00050028, "LsaIsoConfig"},
    {0x00050029, "SbcpInfo"},
    {0x00060001, "NoAuthority"},
    {0x00060002, "AuthorityPubKey"},
    {0x00070001, "FilePath"},
    {0x00070002, "ImageSize"},
    {0x00070003, "HashAlgorithmId"},
    {0x00070004, "AuthenticodeHash"},
    {0x00070005, "AuthorityIssuer"},
    {0x00070006, "AuthoritySerial"},
    {0x00070007, "ImageBase"},
    {0x00070008, "AuthorityPublisher"},
    {0x00070009, "AuthoritySha1Thumbprint"},
    {0x0007000a, "ImageValidated"},
    {0x0007000b, "ModuleSvn"},
    {0x00090001, "ElamKeyname"},
    {0x00090002, "ElamConfiguration"},
    {0x00090003, "ElamPolicy"},
    {0x00090004, "ElamMeasured"},
    {0x000a0001, "VbsVsmRequired"},
    {0x000a0002, "VbsSecureBootRequired"},
    {0x000a0003, "VbsIommuRequired"},
    {0x000a0004, "VbsMmioNxRequired"},
    {0x000a0005, "VbsMsrFilteringRequired"},
    {0x000a0006, "VbsMandatoryEnforcement"},
    {0x000a0007, "VbsHvciPolicy"},
    {0x000a0008, "VbsMicrosoftBootChainRequired"},
    {0x000a0009, "VbsDumpUsesAmeRoot"},
    {0x000a000a, "VbsVsmNoSecretsEnforced"},
    {0x40010001, "TrustBoundary"},
    {0x40010002, "ElamAggregation"},
    {0x40010003, "LoadedModuleAggregation"},
    {0x40010005, "KsrAggregation"},
    {0x40010006, "KsrSignedMeasurementAggregation"},
    {0x80080001, "Quote"},
    {0x80080002, "QuoteSignature"},
    {0x80080003, "AikId"},
    {0x80080004, "AikPubDigest"},
    {0x8f3b22ec, "Initrd"},
    {0x8f3b22ed, "LoadOptions"},
    {0xc0010004, "TrustPointAggregation"},
};

static const char *find(const struct name *names, size_t count, uint32_t id)
{
    size_t low = 0;
    while (low < count) {
        size_t mid = low + (count - low) / 2;
        if (names[mid].id == id)
            return names[mid].name;
        if (names[mid].id < id)
            low = mid + 1;
        else
            count = mid;
    }
    return NULL;
}

const char *qm_event_type_name(uint32_t type)
{
    return find(type_names, QM_COUNT(type_names), type);
}

const char *qm_event_tag_name(uint32_t id)
{
    return find(tag_names, QM_COUNT(tag_names), id);
}
